"""Use cases of autoscaling: profiles, recommendations, carrying them out; by request and in the background."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import timedelta
from typing import Any

import asyncpg
import structlog

from nexusrag.access.roles.facade import is_operator
from nexusrag.infra.database import Database, Work
from nexusrag.infra.resources import Resources
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.events import EventType
from nexusrag.kernel.ids import new_id
from nexusrag.operations.autoscaling import repository
from nexusrag.operations.autoscaling.executors import Executor
from nexusrag.operations.autoscaling.recommend import Profile, Recommendation, Signals, recommend
from nexusrag.operations.autoscaling.schemas import ActionOut, Evaluation, ProfileIn, ProfileOut, ProfilePatch, RecommendationOut
from nexusrag.operations.sla.facade import breached_with, figures_of, measured, measured_of_everybody
from nexusrag.security.audit.facade import write_system
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

log = structlog.get_logger(__name__)
_MOST_PROFILES = 100
_BATCH = 20
_LEAST_REQUESTS = 20
_LOOK_BACK = timedelta(minutes=5)
# For the database, and for a process that is late.
_SLACK_S = 30
_FIELDS = (
    "name", "route_class", "min_replicas", "max_replicas", "target_p95_ms", "target_queue_depth", "cooldown_seconds", "step_up",
    "step_down", "enabled",
)  # fmt: skip


async def load(call: CallContext, profile_id: str) -> Any:
    call.resource_id = profile_id
    row = await repository.find(call.db, profile_id)
    if row is None:
        raise not_found("autoscaling profile")
    return row


async def profiles(call: CallContext) -> list[ProfileOut]:
    return [_shown(row) for row in await repository.profiles(call.db)]


async def create(call: CallContext, body: ProfileIn) -> ProfileOut:
    """Raises SLA_AUTOSCALING_PROFILE_INVALID for bounds or a scope that make no sense."""
    given = body.model_dump()
    _check(call, body.scope, given)
    if await repository.count(call.db) >= _MOST_PROFILES:
        raise ApiError(ErrorCode.CONFLICT, f"A tenant has at most {_MOST_PROFILES} autoscaling profiles.")
    profile_id = new_id("asp")
    call.about(Resource.AUTOSCALING_PROFILE, profile_id)
    call.record(scope=body.scope, enabled=body.enabled)
    return _shown(await repository.insert(call.db, profile_id, body.scope, given, call.principal.subject_id))


async def update(call: CallContext, profile: Any, patch: ProfilePatch) -> ProfileOut:
    """What the patch names, checked together with what stays."""
    given = {name: value for name, value in patch.model_dump(exclude_unset=True).items() if value is not None or name == "route_class"}
    given.pop("tenant_id", None)  # their own, or refused before
    profile = await repository.find(call.db, profile["id"], lock=True)  # as it is now that nobody else changes it
    whole = {**{name: profile[name] for name in _FIELDS}, **given}
    _check(call, profile["scope"], whole)
    call.record(changed=sorted(given))
    row = await repository.update(call.db, profile["id"], whole)
    if row is None:
        raise not_found("autoscaling profile")
    return _shown(row)


async def evaluate(call: CallContext, profile: Any, body: Evaluation) -> RecommendationOut:
    """What would be done. Changes nothing."""
    signals = await _signals(call.resources, call.db, profile, body)
    recommended = _recommended(call.resources, profile, body, signals)
    if recommended.action != "hold" and profile["cooling_s"]:
        recommended = Recommendation("hold", body.current_replicas, "cooldown_active")
    call.record(action=recommended.action, reason=recommended.reason, replicas=recommended.replicas)
    return _told(call.resources, profile, body, signals, recommended)


async def apply(call: CallContext, profile: Any, body: Evaluation) -> ActionOut:
    """Carry out what is recommended, unless this is a dry run. The action stands on record before it is begun.

    Raises SLA_AUTOSCALING_COOLDOWN_ACTIVE, and SLA_AUTOSCALING_EXECUTOR_UNAVAILABLE or, where there are not as many replicas as was
    said, CONFLICT; after these two there is no cooldown.
    """
    await _end_interrupted(call.resources, call.db, profile["id"])
    profile = await repository.find(call.db, profile["id"], lock=True)
    signals = await _signals(call.resources, call.db, profile, body)
    recommended = _recommended(call.resources, profile, body, signals)
    if recommended.action != "hold" and profile["cooling_s"]:
        raise ApiError(
            ErrorCode.SLA_AUTOSCALING_COOLDOWN_ACTIVE, "The profile was applied a short while ago.",
            {"cooldown_remaining_s": profile["cooling_s"]}, headers={"Retry-After": str(profile["cooling_s"])},
        )  # fmt: skip
    action = await _begin(call.resources, call.db, profile, body, signals, recommended, call.principal.subject_id)
    call.record(action=recommended.action, replicas=recommended.replicas, status=action["status"], action_id=action["id"])
    if action["status"] != "pending":
        return _shown_action(action)
    async with call.outside_work():
        await _carry_out(call.resources, call.tenant_id, profile, action)
    call.record(status="applied")
    return _shown_action(await repository.end_action(call.db, action["id"], "applied"))


async def actions(call: CallContext, profile_id: str | None, limit: int) -> list[ActionOut]:
    return [_shown_action(row) for row in await repository.actions(call.db, profile_id, limit)]


async def in_background(resources: Resources) -> None:
    """Evaluate the profiles that are due. Those of one tenant alone are only recommended: replicas are everybody's."""
    settings = resources.get(Settings).autoscaling
    if not settings.autoscaling_enabled:
        return
    async with resources.get(Database).work(None) as work:
        due = await repository.take(work, settings.autoscaling_eval_interval_seconds, _BATCH)
    for row in due:
        try:
            await _evaluate_one(resources, row["tenant_id"], row["id"])
        except (ApiError, asyncpg.PostgresError) as error:
            log.warning("autoscaling.not_evaluated", profile=row["id"], error=type(error).__name__)


async def _evaluate_one(resources: Resources, tenant_id: str, profile_id: str) -> None:
    settings, database = resources.get(Settings).autoscaling, resources.get(Database)
    async with database.work(tenant_id) as work:
        await _end_interrupted(resources, work, profile_id)
        profile = await repository.find(work, profile_id)
    acts = profile is not None and profile["scope"] != "tenant"
    known = await resources.get(Executor).replicas() if acts and not settings.autoscaling_dry_run else None
    async with database.work(tenant_id) as work:
        profile = await repository.find(work, profile_id, lock=True)
        if profile is None or not profile["enabled"]:
            return
        if known == 0:
            log.info("autoscaling.switched_off", profile=profile_id)  # by whoever scaled to 0: not ours to undo
            return
        current = known or profile["replicas"] or profile["min_replicas"]
        body = Evaluation(profile_id=profile_id, route_class=profile["route_class"] or "run", current_replicas=current)
        signals = await _signals(resources, work, profile, body)
        recommended = _recommended(resources, profile, body, signals)
        if recommended.action == "hold" or profile["cooling_s"]:
            return
        action = await _begin(resources, work, profile, body, signals, recommended, "system", act=acts)
        about = {"action": recommended.action, "reason": recommended.reason, "replicas": recommended.replicas, "status": action["status"]}
        await write_system(work, EventType.SLA_AUTOSCALING_RECOMMENDED, about, about=(Resource.AUTOSCALING_PROFILE, profile_id))
    if action["status"] != "pending":
        return
    await _carry_out(resources, tenant_id, profile, action)
    async with database.work(tenant_id) as work:
        await repository.end_action(work, action["id"], "applied")
        about = {"action_id": action["id"], "replicas": recommended.replicas}
        await write_system(work, EventType.SLA_AUTOSCALING_APPLIED, about, about=(Resource.AUTOSCALING_PROFILE, profile_id))


async def _begin(
    resources: Resources, work: Work, profile: Any, body: Evaluation, signals: Signals, recommended: Recommendation, by: str, *,
    act: bool = True,
) -> Any:  # fmt: skip
    """Put an action on record: pending if it is to be carried out. The cooldown begins, in a dry run as well, so that it rehearses all."""
    settings, executor = resources.get(Settings).autoscaling, resources.get(Executor)
    holds = recommended.action == "hold" or not act
    status = "recommended" if holds else "dry_run" if settings.autoscaling_dry_run else "pending"
    if recommended.action != "hold":
        await repository.begin_cooldown(work, profile["id"], recommended.replicas)
    written = {
        "profile_id": profile["id"], "route_class": body.route_class, "action": recommended.action, "reason": recommended.reason,
        "current_replicas": body.current_replicas, "recommended_replicas": recommended.replicas, "status": status,
        "executor": executor.name, "signals": asdict(signals), "created_by": by,
    }  # fmt: skip
    return await repository.insert_action(work, new_id("asa"), written)


async def _carry_out(resources: Resources, tenant_id: str, profile: Any, action: Mapping[str, Any]) -> None:
    """Scale, from where the action begins. Whoever is interrupted or refused leaves the action as failed and no cooldown."""
    executor = resources.get(Executor)
    try:
        known = await executor.replicas()
        if known not in (None, action["current_replicas"]):
            message = f"There are {known} replicas and not {action['current_replicas']}; what was recommended is no step from there."
            raise ApiError(ErrorCode.CONFLICT, message, {"replicas": known})
        await executor.scale(action["recommended_replicas"])
    except BaseException:
        await asyncio.shield(_failed(resources, tenant_id, profile, action))
        raise


async def _failed(resources: Resources, tenant_id: str, profile: Any, action: Mapping[str, Any]) -> None:
    async with resources.get(Database).work(tenant_id) as work:
        await repository.end_action(work, action["id"], "failed")
        await repository.end_cooldown(work, profile["id"], profile["replicas"], action["id"])


async def _end_interrupted(resources: Resources, work: Work, profile_id: str) -> None:
    """End what a process left when it died: whoever carries an action out asks twice, and notes how it ended."""
    allowed_s = 2 * resources.get(Settings).autoscaling.autoscaling_kubernetes_timeout_s + _SLACK_S
    if await repository.end_interrupted(work, profile_id, allowed_s):
        log.warning("autoscaling.interrupted", profile=profile_id)


async def _signals(resources: Resources, work: Work, profile: Any, body: Evaluation) -> Signals:
    """What was given, and for what was not: what was measured, if enough was."""
    p95, depth = body.p95_ms, body.queue_depth
    if p95 is None:
        now = clock.now()
        read = measured if profile["scope"] == "tenant" else measured_of_everybody
        figures = figures_of(await read(work, now - _LOOK_BACK, now), lambda cell: cell["route_class"] == body.route_class)
        p95 = figures.sketch.quantile(0.95) if figures.sketch.count >= _LEAST_REQUESTS else None
    if depth is None:
        depth = await repository.queue_depth(work, resources.get(Settings).ingestion.ingest_queue_name)
    breached = await breached_with(work, profile["id"], platform=profile["scope"] != "tenant")
    return Signals(p95, depth, body.signal_quality, breached)


def _recommended(resources: Resources, profile: Any, body: Evaluation, signals: Signals) -> Recommendation:
    if profile["route_class"] is not None and profile["route_class"] != body.route_class:
        raise _invalid(f"The profile is about {profile['route_class']} alone.", "route_class")
    known = Profile(**{one.name: profile[one.name] for one in fields(Profile)})
    return recommend(known, body.current_replicas, signals, resources.get(Settings).autoscaling.autoscaling_hysteresis_pct)


def _told(resources: Resources, profile: Any, body: Evaluation, signals: Signals, recommended: Recommendation) -> RecommendationOut:
    settings = resources.get(Settings).autoscaling
    return RecommendationOut(
        profile_id=profile["id"],
        route_class=body.route_class,
        action=recommended.action,
        reason=recommended.reason,
        current_replicas=body.current_replicas,
        recommended_replicas=recommended.replicas,
        cooldown_remaining_s=profile["cooling_s"],
        dry_run=settings.autoscaling_dry_run,
        executor=settings.autoscaling_executor,
        signals=asdict(signals),
    )


def _check(call: CallContext, scope: str, given: Mapping[str, Any]) -> None:
    if given["min_replicas"] > given["max_replicas"]:
        raise _invalid("min_replicas must not exceed max_replicas.", "min_replicas")
    if scope == "route_class" and given["route_class"] is None:
        raise _invalid("A profile of scope route_class names its route_class.", "route_class")
    if scope != "tenant" and not is_operator(call.principal, call.of(Settings)):
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "Profiles beyond one tenant are for operators.", {"required_role": "operator"})


def _invalid(message: str, field: str) -> ApiError:
    return ApiError(ErrorCode.SLA_AUTOSCALING_PROFILE_INVALID, message, {"field": field})


def _shown(row: Any) -> ProfileOut:
    return ProfileOut.model_validate(dict(row))


def _shown_action(row: Any) -> ActionOut:
    return ActionOut.model_validate(dict(row))
