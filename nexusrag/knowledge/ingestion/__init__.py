"""Ingestion: from the bytes of an upload to chunks with vectors. Owns jobs and parsers, not the documents they belong to."""
