"""Embedded servers, secrets and process supervision, with real servers and real SIGKILLs."""
