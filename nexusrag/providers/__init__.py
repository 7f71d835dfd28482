"""Every outside system behind a port: language models, embeddings, speech, storage."""
