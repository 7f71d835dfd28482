"""Credentials: from what a request carries to the caller behind it, of every kind, with a cache that revocation empties within a second."""
