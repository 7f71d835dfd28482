"""Runs: a question answered as a stream of events."""
