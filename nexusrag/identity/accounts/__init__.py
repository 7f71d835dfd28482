"""Accounts: people who log in with a password, their logins, and invitations into a tenant. Owns sessions and refresh tokens, not users."""
