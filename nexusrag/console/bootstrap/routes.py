"""HTTP face of the console's bootstrap: /v1/ui/bootstrap."""

from nexusrag.console.bootstrap import gates, service
from nexusrag.console.bootstrap.schemas import UiBootstrap
from nexusrag.web.call import Call
from nexusrag.web.router import Router

router = Router("ui", tag="Console")


@router.get("/bootstrap", gate=gates.READ)
async def bootstrap(call: Call) -> UiBootstrap:
    """Who is calling, what their role and their tenant's plan let them do, and what this installation offers."""
    return await service.bootstrap(call)
