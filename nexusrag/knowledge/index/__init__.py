"""The index: versions of documents, their chunks, the postings and vectors that searches read. Knows no permissions."""
