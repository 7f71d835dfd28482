"""Costs: what use costs and who pays. Owns prices, budgets and chargeback reports; what was used and charged is the ledger's."""
