"""What each quota route demands. Every admin reads their own tenant's limits; only operators of the platform change them, anybody's.

They count no units: a tenant at its cap must find out, and an operator must be able to raise it.
"""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.events import EventType
from nexusrag.web.gate import gate

READ = gate(Action.QUOTAS_READ, reach="operators", units=0)
CHANGE = gate(Action.QUOTAS_MANAGE, operator=True, reach="operators", audit=EventType.QUOTA_UPDATED, units=0)
