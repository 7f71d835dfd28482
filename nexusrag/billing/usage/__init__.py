"""Usage: what a tenant used, and what its plan and quota leave it, as its own admins see it. Owns no table."""
