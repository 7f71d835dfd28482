"""Retrieval: the best passages of a corpus among those that the caller may see. Owns no table; reads the index."""
