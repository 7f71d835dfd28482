"""Audit and encryption."""
