"""What the dashboard demands. It counts no units: at the cap it is what says so."""

from nexusrag.kernel.actions import Action
from nexusrag.web.gate import gate

READ = gate(Action.DASHBOARD_READ, units=0)
