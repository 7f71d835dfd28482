"""Roles: the least role of each action, checked before anything is read, and a tenant's own roles. Owns no holder of a role."""
