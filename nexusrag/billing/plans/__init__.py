"""Plans: what a tenant pays for, and so may use. Owns assignments, overrides and upgrade requests."""
