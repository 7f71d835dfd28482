"""Corpora, documents, ingestion and retrieval."""
