"""Use cases of service levels: policies, assignments, incidents. A change acts in every process within a second."""

from collections.abc import Mapping
from typing import Any

from nexusrag.access.roles.facade import is_operator
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.ids import new_id
from nexusrag.operations.sla import repository
from nexusrag.operations.sla.config import read
from nexusrag.operations.sla.decisions import CHANGED, EVERYTHING
from nexusrag.operations.sla.schemas import AssignmentOut, AssignmentPatch, IncidentOut, PolicyIn, PolicyOut, PolicyPatch, StandingOut
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

_MOST_POLICIES = 200
_FIELDS = ("name", "tier", "version", "enabled", "config")


async def load_policy(call: CallContext, policy_id: str) -> Any:
    """A policy of the tenant or of the platform, or not found."""
    call.resource_id = policy_id
    row = await repository.find_policy(call.db, policy_id)
    if row is None:
        raise not_found("SLA policy")
    return row


async def load_incident(call: CallContext, incident_id: str) -> Any:
    call.resource_id = incident_id
    row = await repository.find_incident(call.db, incident_id)
    if row is None:
        raise not_found("SLA incident")
    return row


async def policies(call: CallContext, *, include_global: bool) -> list[PolicyOut]:
    return [PolicyOut.of(row) for row in await repository.policies(call.db, include_global=include_global)]


async def create(call: CallContext, body: PolicyIn) -> PolicyOut:
    """Raises SLA_POLICY_INVALID, and CONFLICT for more policies than a tenant can have."""
    read(body.config_json)
    fields = {
        "name": body.name, "tier": body.tier, "version": body.version, "enabled": body.enabled, "config": body.config_json,
    }  # fmt: skip
    policy_id = new_id("sla")
    call.about(Resource.SLA_POLICY, policy_id)
    call.record(tier=body.tier, enabled=body.enabled, is_global=body.is_global)
    if body.is_global:
        _require_operator(call)
        row = await repository.put_policy_of_platform(call.db, policy_id, fields, call.principal.subject_id)
    elif await repository.count_policies(call.db) >= _MOST_POLICIES:
        raise ApiError(ErrorCode.CONFLICT, f"A tenant has at most {_MOST_POLICIES} SLA policies.")
    else:
        row = await repository.insert_policy(call.db, policy_id, fields, call.principal.subject_id)
    return PolicyOut.of(row)


async def update(call: CallContext, policy: Any, patch: PolicyPatch) -> PolicyOut:
    """What the patch names. Its version rises, and whoever is under it is judged anew, unless it names nothing."""
    if policy["tenant_id"] is None:
        _require_operator(call)
    given = {name: value for name, value in patch.model_dump().items() if value is not None}
    if not given:
        call.unchanged = True
        return PolicyOut.of(policy)
    await repository.hold_policy(call.db, policy["id"])
    if "config_json" in given:
        read(given["config_json"])
        given["config"] = given.pop("config_json")
        await _check_overrides(call, policy, given["config"])
    call.record(changed=sorted(given))
    return await _write(call, policy, given)


async def switch(call: CallContext, policy: Any, *, on: bool) -> PolicyOut:
    """Enable or disable. What is so already stays as it is."""
    await repository.hold_policy(call.db, policy["id"])
    policy = await repository.find_policy(call.db, policy["id"])
    if policy["enabled"] is on:
        call.unchanged = True
        return PolicyOut.of(policy)
    return await _write(call, policy, {"enabled": on})


async def _check_overrides(call: CallContext, policy: Any, config: Any) -> None:
    """Whoever is under the policy with something that differs must be able to read it afterwards."""
    for row in await repository.overrides(call.db, policy["id"]):
        try:
            read(config, row["override"])
        except ApiError as error:
            message = f"With what differs for {row['tenant_id']} the policy could not be read: {error.message}"
            raise ApiError(ErrorCode.SLA_POLICY_INVALID, message, {**(error.details or {}), "tenant_id": row["tenant_id"]}) from error


async def _write(call: CallContext, policy: Any, given: Mapping[str, Any]) -> PolicyOut:
    policy = await repository.find_policy(call.db, policy["id"])  # as it is now that it is held
    fields = {**{name: policy[name] for name in _FIELDS}, **given, "version": policy["version"] + 1}
    if policy["tenant_id"] is None:
        _require_operator(call)
        row = await repository.put_policy_of_platform(call.db, policy["id"], fields, call.principal.subject_id)
    else:
        row = await repository.update_policy(call.db, policy["id"], fields)
    if row is None:
        raise not_found("SLA policy")
    call.record(version=row["version"], enabled=row["enabled"])
    await call.announce(CHANGED, EVERYTHING)
    return PolicyOut.of(row)


async def assignment(call: CallContext) -> AssignmentOut:
    """The tenant's assignment. Raises SLA_ASSIGNMENT_NOT_FOUND."""
    row = await repository.find_assignment(call.db)
    if row is None:
        raise ApiError(ErrorCode.SLA_ASSIGNMENT_NOT_FOUND, "No SLA policy is assigned; PATCH this path with a policy_id assigns one.")
    policy = await repository.find_policy(call.db, row["policy_id"])
    now = clock.now()
    began, not_over = row["effective_from"] <= now, row["effective_to"] is None or row["effective_to"] > now
    return AssignmentOut(
        tenant_id=row["tenant_id"],
        policy_id=row["policy_id"],
        policy_name=policy["name"],
        policy_version=policy["version"],
        active=policy["enabled"] and began and not_over,
        effective_from=row["effective_from"],
        effective_to=row["effective_to"],
        override_json=row["override"],
        updated_by=row["updated_by"],
        updated_at=row["updated_at"],
        standing=[
            StandingOut(signal_quality=state["signal"], bad_windows=state["bad"], good_windows=state["good"], **{
                name: state[name] for name in ("route_class", "status", "decision", "window_end", "evidence")
            })
            for state in await repository.states(call.db)
        ],
    )  # fmt: skip


async def assign(call: CallContext, body: AssignmentPatch) -> AssignmentOut:
    """Put the tenant under a policy of its own or of the platform's; how it stood before counts no more."""
    await repository.hold_policy(call.db, body.policy_id)
    policy = await repository.find_policy(call.db, body.policy_id)
    if policy is None:
        raise not_found("SLA policy")
    if body.effective_to is not None and body.effective_to <= (body.effective_from or clock.now()):
        raise ApiError(ErrorCode.VALIDATION_ERROR, "effective_to must lie after effective_from.", {"field": "effective_to"})
    read(policy["config"], body.override_json)
    call.about(Resource.SLA_ASSIGNMENT, call.tenant_id)
    call.record(policy_id=policy["id"], policy_version=policy["version"], by_tenant=call.principal.tenant_id)
    await repository.put_assignment(
        call.db, policy["id"], body.effective_from, body.effective_to, body.override_json, call.principal.subject_id
    )
    await call.announce(CHANGED, EVERYTHING)
    return await assignment(call)


async def incidents(call: CallContext, status: str | None) -> list[IncidentOut]:
    """The newest 200."""
    return [IncidentOut.model_validate(dict(row)) for row in await repository.incidents(call.db, status)]


async def resolve(call: CallContext, incident: Any) -> IncidentOut:
    """Say that it is over: the tenant is judged anew from here on, and what is still bad opens another incident."""
    await repository.hold_assignment(call.db)
    incident = await repository.find_incident(call.db, incident["id"])
    if incident["status"] == "resolved":
        call.unchanged = True
        return IncidentOut.model_validate(dict(incident))
    await repository.resolve_incidents(call.db, incident["route_class"], call.principal.subject_id)
    await repository.forget_state(call.db, incident["route_class"])
    call.record(route_class=incident["route_class"], policy_id=incident["policy_id"])
    await call.announce(CHANGED, EVERYTHING)
    return IncidentOut.model_validate(dict(await repository.find_incident(call.db, incident["id"])))


def _require_operator(call: CallContext) -> None:
    if not is_operator(call.principal, call.of(Settings)):
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "Policies of the platform are written by its operators.", {"required_role": "operator"})
