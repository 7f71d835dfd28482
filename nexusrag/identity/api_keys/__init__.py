"""API keys: minting, keyed hashes, checking, revoking. A leaked table is no credential."""
