"""HTTP face of the dashboard: /v1/ui/dashboard."""

from typing import Annotated

from fastapi import Query

from nexusrag.console.dashboard import gates, service
from nexusrag.console.dashboard.schemas import UiDashboard
from nexusrag.web.call import Call
from nexusrag.web.router import Router

router = Router("ui/dashboard", tag="Console")


@router.get("/summary", gate=gates.READ)
async def dashboard_summary(call: Call, window_days: Annotated[int, Query(ge=1, le=90)] = 30) -> UiDashboard:
    """How the tenant is doing: questions, documents, errors, use, and what needs somebody's attention."""
    return await service.summary(call, window_days)
