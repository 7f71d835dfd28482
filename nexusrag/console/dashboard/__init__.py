"""Dashboard: what the tenant's admins see first, in figures that other domains give. Owns no table."""
