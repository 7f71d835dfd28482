"""Operators' actions in an emergency: each forces a flag that ends by itself, or closes a circuit breaker. Owns no table."""
