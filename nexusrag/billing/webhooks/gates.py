"""What the webhook route demands."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.kernel.switches import Switch
from nexusrag.web.gate import gate

TEST = gate(
    Action.BILLING_WEBHOOK_TEST,
    feature=Feature.BILLING_WEBHOOK_TEST,
    audit=EventType.SELFSERVE_WEBHOOK_TESTED,
    switch=Switch.NOTIFICATIONS,
)
