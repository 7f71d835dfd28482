"""What tests stand on: a real installation per test process, clients with keys of their own tenants, and readers of streams."""
