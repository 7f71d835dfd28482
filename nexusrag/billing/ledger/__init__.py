"""Ledger: what tenants reserved, used and owe. The only writer of usage; it knows no prices and no plans."""
