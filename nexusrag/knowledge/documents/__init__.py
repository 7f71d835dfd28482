"""Documents: what people put in, with its state on the way to the index. Owns documents, not their chunks."""
