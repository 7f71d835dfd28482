"""Parsing: from a file's bytes to chunks with offsets, in a subprocess with limits. Knows no tenant and no database."""
