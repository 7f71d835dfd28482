"""Tenants: the walls of the platform. Owns the row that says a tenant exists and is active."""
