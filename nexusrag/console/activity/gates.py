"""What the activity route demands: it is the audit log in another dress, and so asks of the plan what that does."""

from nexusrag.kernel.actions import Action
from nexusrag.kernel.features import Feature
from nexusrag.web.gate import gate

LIST = gate(Action.ACTIVITY_READ, feature=Feature.AUDIT_ACCESS)
