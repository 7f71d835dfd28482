"""Admission: rates, simultaneous requests and request units, decided in one question to Redis. Owns what Redis counts, no tables."""
