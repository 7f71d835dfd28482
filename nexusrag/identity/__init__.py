"""Tenants, users and their credentials."""
