"""What each run route demands. Runs are their caller's own: nobody else finds them. A run that was begun is paid for."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.switches import Switch
from nexusrag.kernel.traffic import RouteClass
from nexusrag.web.gate import gate

CREATE = gate(
    Action.RUNS_CREATE,
    Resource.CORPUS,
    at="body",
    bulkhead="run",
    rate=RouteClass.RUN,
    units=3,
    switch=Switch.RUN,
    legacy=True,
    enveloped=False,
)
READ = gate(Action.RUNS_READ, Resource.RUN, units=0)
EVENTS = gate(Action.RUNS_READ, enveloped=False, units=0)
CANCEL = gate(Action.RUNS_CANCEL, Resource.RUN, audit=EventType.RUN_CANCELLED, units=0)
