"""Billing webhooks: what an outside billing system is told, signed, in the end at least once. Decides nothing about money."""
