"""What each health route demands."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.web.gate import Gate, gate, public

ALIVE = public("load balancers ask without a key", legacy=True, probed=True)
METRICS = public("Prometheus scrapes without a key; no label names a tenant", enveloped=False, probed=True)
# Without a transaction of the request: these must answer when the database is away, and are audited by their own hand.
OPS: Gate = gate(Action.OPS_READ, feature=Feature.OPS_ADMIN_ACCESS, legacy=True, transaction=False, units=0)
VIEWED = EventType.OPS_VIEWED
