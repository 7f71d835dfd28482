"""Language models behind one port. Knows nothing of tenants, prompts in store or money: the gateway does."""
