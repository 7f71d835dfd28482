"""HTTP face of posture: /v1/ops/authz/posture."""

from nexusrag.operations.posture import gates, service
from nexusrag.operations.posture.schemas import AuthzPosture
from nexusrag.web.call import Call
from nexusrag.web.router import Router

router = Router("ops/authz", tag="Operations")


@router.get("/posture", gate=gates.READ)
async def authz_posture(call: Call) -> AuthzPosture:
    """What stands between tenants and what decides about documents here, as it is and not only as it was configured."""
    return await service.posture(call)
