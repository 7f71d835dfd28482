"""Texts to vectors, behind one port: a model on this machine, an OpenAI-compatible endpoint, or a hash for tests."""
