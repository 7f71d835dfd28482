"""API keys: made, listed, rotated, revoked. A key belongs to a user and never carries more than they may."""
