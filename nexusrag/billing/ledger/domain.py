"""Manifest of the ledger."""

from nexusrag.billing.ledger import expiry
from nexusrag.web.domain import Cron, Domain

domain = Domain(name="ledger", wing="billing", crons=(Cron(name="settle expired reservations", every_s=5, run=expiry.expire),))
