"""What the routes of API keys demand. A new key's secret is in the answer alone."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

_SECRET = "api_key"

LIST = gate(Action.API_KEYS_READ)
CHANGE = gate(Action.API_KEYS_MANAGE, Resource.API_KEY)
ROTATE = gate(Action.API_KEYS_MANAGE, Resource.API_KEY, audit=EventType.API_KEY_ROTATED, shown_once=_SECRET)
LIST_OWN = gate(Action.API_KEYS_READ, audit=EventType.SELFSERVE_KEY_LISTED)
CREATE = gate(Action.API_KEYS_MANAGE, audit=EventType.SELFSERVE_KEY_CREATED, shown_once=_SECRET)
REVOKE = gate(Action.API_KEYS_MANAGE, Resource.API_KEY)
REPORT = gate(Action.API_KEYS_READ, audit=EventType.SELFSERVE_INACTIVE_REPORTED)
