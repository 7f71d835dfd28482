"""HTTP face of decisions: /v1/admin/authz/explain and /v1/admin/authz/policies/{id}/impact."""

from typing import Annotated, Any

from fastapi import Body, Query

from nexusrag.governance.authorization import gates, impact, service
from nexusrag.governance.authorization.schemas import Explanation, Impact, ImpactIn
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

router = Router("admin/authz", tag="Decisions")
_Term = Annotated[str, Query(min_length=1, max_length=200)]


@router.get("/explain", gate=gates.EXPLAIN)
async def explain_decision(call: Call, principal: _Term, resource: _Term, action: _Term) -> Explanation:
    """Say why somebody may do something or may not, step by step.

    `principal` is `user:<id>` or `api_key:<id>`, `resource` is `document:<id>`, `corpus:<id>` or a kind alone (`run`), `action` a
    policy's verb (`read`, `delete` …). Grants, groups, roles and policies count as they are now; times and addresses as of this request.
    """
    return await service.explain(call, principal, resource, action)


@router.post("/policies/{policy_id}/impact", gate=gates.IMPACT)
async def policy_impact(call: Call, policy: Loaded[Any], body: Annotated[ImpactIn | None, Body()] = None) -> Impact:
    """Say who would gain or lose what if a policy were enabled: over documents, people and the last requests on record."""
    return await impact.impact(call, policy, body or ImpactIn())
