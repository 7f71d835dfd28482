"""Runs: one question answered as a stream of events that survives its connection, with a receipt. Owns sessions and their history."""
