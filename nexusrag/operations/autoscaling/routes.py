"""HTTP face of autoscaling: /v1/admin/sla/autoscaling."""

from typing import Annotated, Any

from fastapi import Query

from nexusrag.operations.autoscaling import gates, service
from nexusrag.operations.autoscaling.schemas import (
    ActionList,
    ActionOut,
    Evaluation,
    ProfileIn,
    ProfileList,
    ProfileOut,
    ProfilePatch,
    RecommendationOut,
)
from nexusrag.web.call import Call, Loaded
from nexusrag.web.router import Router

router = Router("admin/sla/autoscaling", tag="Autoscaling")


@router.get("/profiles", gate=gates.LIST)
async def list_autoscaling_profiles(call: Call) -> ProfileList:
    """List the tenant's profiles."""
    return ProfileList(items=await service.profiles(call))


@router.post("/profiles", gate=gates.CREATE, status_code=201)
async def create_autoscaling_profile(call: Call, body: ProfileIn) -> ProfileOut:
    """Create a profile. An enabled one is evaluated in the background."""
    return await service.create(call, body)


@router.patch("/profiles/{profile_id}", gate=gates.UPDATE)
async def update_autoscaling_profile(call: Call, profile: Loaded[Any], patch: ProfilePatch) -> ProfileOut:
    """Change a profile."""
    return await service.update(call, profile, patch)


@router.post("/evaluate", gate=gates.EVALUATE)
async def evaluate_autoscaling(call: Call, profile: Loaded[Any], body: Evaluation) -> RecommendationOut:
    """Say how many replicas there should be, and why. Changes nothing."""
    return await service.evaluate(call, profile, body)


@router.post("/apply", gate=gates.APPLY)
async def apply_autoscaling(call: Call, profile: Loaded[Any], body: Evaluation) -> ActionOut:
    """Carry out what is recommended; with AUTOSCALING_DRY_RUN only put on record what would have been done."""
    return await service.apply(call, profile, body)


@router.get("/actions", gate=gates.ACTIONS)
async def list_autoscaling_actions(
    call: Call, profile_id: str | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> ActionList:
    """What was recommended and done, newest first."""
    return ActionList(items=await service.actions(call, profile_id, limit))
