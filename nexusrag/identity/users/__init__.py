"""Users and groups: who belongs to a tenant, in which role, and in which company. Owns no credential."""
