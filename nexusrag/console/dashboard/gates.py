"""What the dashboard demands."""

from nexusrag.kernel.actions import Action
from nexusrag.web.gate import gate

READ = gate(Action.DASHBOARD_READ)
