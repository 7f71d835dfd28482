"""Plans, quotas, usage, costs and payments."""
