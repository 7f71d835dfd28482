"""Encryption at rest: the format of stored files, the keys it asks for, and the store that joins them to a place."""
