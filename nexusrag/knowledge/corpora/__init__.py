"""Corpora: named sets of documents with one retrieval configuration and one visibility. Owns no document."""
