"""What the routes of API keys demand. A new key's secret is in the answer alone.

Finding a key and taking it away count no units: a tenant that has used its own can still stop a leak.
"""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

_SECRET = "api_key"

LIST = gate(Action.API_KEYS_READ, units=0)
CHANGE = gate(Action.API_KEYS_MANAGE, Resource.API_KEY, units=0)
ROTATE = gate(Action.API_KEYS_MANAGE, Resource.API_KEY, audit=EventType.API_KEY_ROTATED, shown_once=_SECRET)
LIST_OWN = gate(Action.API_KEYS_READ, audit=EventType.SELFSERVE_KEY_LISTED, units=0)
CREATE = gate(Action.API_KEYS_MANAGE, audit=EventType.SELFSERVE_KEY_CREATED, shown_once=_SECRET)
REVOKE = gate(Action.API_KEYS_MANAGE, Resource.API_KEY, units=0)
REPORT = gate(Action.API_KEYS_READ, audit=EventType.SELFSERVE_INACTIVE_REPORTED)
