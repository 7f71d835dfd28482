"""Activity: the tenant's audit log as the console shows it. Owns no table."""
