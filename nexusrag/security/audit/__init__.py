"""Audit: who did what, append-only, in the transaction of the act. Never holds secrets, prompts or document text."""
