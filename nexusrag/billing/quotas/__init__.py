"""Quotas: how many units and tokens a tenant may use in a day and in a month. Owns what operators set; the ledger has what was used."""
