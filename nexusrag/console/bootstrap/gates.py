"""What the console's first question demands."""

from nexusrag.kernel.actions import Action
from nexusrag.web.gate import gate

READ = gate(Action.CONSOLE_READ, units=0)
