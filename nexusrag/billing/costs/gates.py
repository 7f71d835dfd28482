"""What each cost route demands. A tenant's admins alone see and change what is theirs; nobody reaches another's."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.web.gate import gate

# A tenant that has used up its quota can still look at what it spends and mend its budget.
VIEW = gate(Action.COSTS_READ, feature=Feature.COST_VISIBILITY, units=0)
SET_BUDGET = gate(Action.COSTS_MANAGE, feature=Feature.COST_CONTROLS, audit=EventType.COST_BUDGET_UPDATED, units=0)
ADD_PRICE = gate(Action.COSTS_MANAGE, feature=Feature.COST_CONTROLS, audit=EventType.COST_PRICING_UPDATED)
CHANGE_PRICE = gate(Action.COSTS_MANAGE, Resource.PRICE, feature=Feature.COST_CONTROLS, audit=EventType.COST_PRICING_UPDATED)
GENERATE = gate(Action.COSTS_MANAGE, feature=Feature.CHARGEBACK_REPORTS, audit=EventType.COST_CHARGEBACK_GENERATED)
REPORTS = gate(Action.COSTS_READ, feature=Feature.CHARGEBACK_REPORTS)
REPORT = gate(Action.COSTS_READ, Resource.CHARGEBACK_REPORT, feature=Feature.CHARGEBACK_REPORTS)
SHEET = gate(Action.COSTS_READ, Resource.CHARGEBACK_REPORT, feature=Feature.CHARGEBACK_REPORTS, enveloped=False)
