"""Use cases of policies: write, enable, simulate. A change binds in every process within a second."""

from collections.abc import Mapping
from typing import Any

from nexusrag.access.policies import repository
from nexusrag.access.policies.attributes import Attributes, schema_of
from nexusrag.access.policies.cache import CHANGED, PLATFORM, Policies, limits
from nexusrag.access.policies.caller import describe
from nexusrag.access.policies.decide import MAX_PATTERNS, Policy, PolicySet, read_policy
from nexusrag.access.policies.language import PolicyError, check_target, parse
from nexusrag.access.policies.schemas import PolicyIn, PolicyOut, PolicyPatch, SimulationIn, SimulationOut
from nexusrag.access.roles.facade import is_operator
from nexusrag.kernel import clock
from nexusrag.kernel.actions import POLICY_TERMS
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.ids import new_id
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

MAX_POLICIES = 20_000
_TYPES = frozenset(resource.value for resource, _ in POLICY_TERMS.values())
# On documents one can write, too: it is what a permission to write is about.
_VERBS = frozenset(verb for _, verbs in POLICY_TERMS.values() for verb in verbs)


async def load(call: CallContext, policy_id: str) -> Any:
    """A policy of the tenant or of the platform, or not found."""
    call.resource_id = policy_id
    row = await repository.find(call.db, policy_id)
    if row is None:
        raise not_found("policy")
    return row


async def policies(call: CallContext, *, include_global: bool) -> list[PolicyOut]:
    return [PolicyOut.of(row) for row in await repository.listed(call.db, include_global=include_global)]


async def create(call: CallContext, body: PolicyIn) -> PolicyOut:
    """Raises AUTHZ_POLICY_INVALID, AUTHZ_POLICY_TOO_COMPLEX, and CONFLICT for more policies than a tenant can have."""
    fields = {
        "name": body.name,
        "effect": body.effect,
        "resource_type": body.resource_type,
        "action": body.action,
        "condition": body.condition_json,
        "priority": body.priority,
        "enabled": body.enabled,
    }
    _check(call, fields)
    policy_id = call.resource_id = new_id("pol")
    if not body.is_global and await repository.count(call.db) >= MAX_POLICIES:
        raise ApiError(ErrorCode.CONFLICT, f"A tenant has at most {MAX_POLICIES} policies; delete or join some.")
    return await _write(call, policy_id, fields, of_platform=body.is_global, new=True)


async def update(call: CallContext, policy: Any, patch: PolicyPatch) -> PolicyOut:
    """What the patch names, checked together with what stays."""
    given = patch.model_dump(exclude_unset=True)
    if any(value is None for name, value in given.items() if name != "condition_json"):
        raise ApiError(ErrorCode.VALIDATION_ERROR, "Only condition_json can be null; leave out what stays as it is.")
    if "condition_json" in given:
        given["condition"] = given.pop("condition_json")
    fields = {name: given.get(name, policy[name]) for name in _FIELDS}
    _check(call, fields)
    call.record(changed=sorted(given), version=policy["version"] + 1)
    return await _write(call, policy["id"], fields, of_platform=policy["tenant_id"] is None)


_FIELDS = ("name", "effect", "resource_type", "action", "condition", "priority", "enabled")


async def switch(call: CallContext, policy: Any, *, on: bool) -> PolicyOut:
    """Enable or disable. What is so already stays as it is."""
    if policy["enabled"] is on:
        return PolicyOut.of(policy)
    fields = {**{name: policy[name] for name in _FIELDS}, "enabled": on}
    return await _write(call, policy["id"], fields, of_platform=policy["tenant_id"] is None)


async def delete(call: CallContext, policy: Any) -> None:
    """Raises CONFLICT for a policy of the platform: it is disabled instead, so that its history stays."""
    if policy["tenant_id"] is None:
        _require_operator(call)
        raise ApiError(ErrorCode.CONFLICT, "A policy of the platform cannot be deleted; disable it.")
    if not await repository.delete(call.db, policy["id"]):
        raise not_found("policy")
    await call.announce(CHANGED, call.tenant_id)


async def _write(call: CallContext, policy_id: str, fields: dict[str, Any], *, of_platform: bool, new: bool = False) -> PolicyOut:
    await _check_patterns(call, policy_id, fields)
    if of_platform:
        _require_operator(call)
        row = await repository.put_of_platform(call.db, policy_id, fields, call.principal.subject_id)
    elif new:
        row = await repository.insert(call.db, policy_id, fields, call.principal.subject_id)
    else:
        row = await repository.update(call.db, policy_id, fields)
    if row is None:
        raise not_found("policy")
    call.record(effect=row["effect"], resource_type=row["resource_type"], action=row["action"], enabled=row["enabled"])
    await call.announce(CHANGED, PLATFORM if of_platform else call.tenant_id)
    return PolicyOut.of(row)


def _require_operator(call: CallContext) -> None:
    if not is_operator(call.principal, call.of(Settings)):
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "Policies of the platform are written by its operators.", {"required_role": "operator"})


def _check(call: CallContext, fields: Mapping[str, Any]) -> None:
    settings = call.of(Settings)
    try:
        check_target(fields["resource_type"], fields["action"], _TYPES, _VERBS, allow_wildcards=settings.auth.authz_allow_wildcards)
        parse(fields["condition"], schema_of(fields["resource_type"]), limits(settings))
    except PolicyError as error:
        raise ApiError(ErrorCode(error.code), str(error), {"path": error.path}) from error


async def _check_patterns(call: CallContext, policy_id: str, fields: Mapping[str, Any]) -> None:
    """Refuse what the database could not match quickly together with the other policies."""
    if not fields["enabled"]:
        return
    enabled = await call.of(Policies).of(call.tenant_id)
    others = [one for one in enabled.policies if one.id != policy_id]
    together = PolicySet([*others, read({**fields, "id": policy_id}, call.of(Settings))])
    for type_ in _TYPES if fields["resource_type"] == "*" else (fields["resource_type"],):
        if together.patterns(type_) > MAX_PATTERNS:
            raise ApiError(
                ErrorCode.AUTHZ_POLICY_TOO_COMPLEX,
                f"The enabled policies on {type_} would have more than {MAX_PATTERNS} different patterns; join some with '|'.",
            )


async def simulate(call: CallContext, policy: Any, body: SimulationIn) -> SimulationOut:
    """Decide a supposed request by the enabled policies and this one. Grants nothing, and reads nothing but policies."""
    settings = call.of(Settings)
    if not settings.auth.authz_simulation_enabled:
        raise ApiError(ErrorCode.AUTHZ_DENIED, "Simulation is switched off (AUTHZ_SIMULATION_ENABLED).")
    if body.resource_type not in _TYPES or body.action not in _VERBS:
        raise ApiError(
            ErrorCode.AUTHZ_SIMULATION_INVALID,
            f"resource_type is one of {', '.join(sorted(_TYPES))}; action is one of {', '.join(sorted(_VERBS))}.",
        )
    asked = {name: _object(name, getattr(body, name)) for name in ("principal", "resource", "request", "context")}
    now = {"time": clock.seconds(clock.now()), "ip": None, "method": "", "path": "", "action": ""}
    attributes = Attributes(
        {**describe(call.principal), **asked["principal"]}, {**now, **asked["context"], **asked["request"]}, asked["resource"]
    )
    enabled = await call.of(Policies).of(call.tenant_id)
    others = [one for one in enabled.policies if one.id != policy["id"]]
    decision = PolicySet([*others, read(policy, settings)]).explain(body.resource_type, body.action, attributes)
    return SimulationOut(
        allowed=decision.denied_by is None and (decision.allowed_by is not None or not settings.auth.authz_default_deny),
        reason=_reason(decision.denied_by, decision.allowed_by, default_deny=settings.auth.authz_default_deny),
        matched_policy_id=decision.denied_by or decision.allowed_by,
        matched_policies=list(decision.matched),
        trace=list(decision.trace),
    )


def read(row: Mapping[str, Any], settings: Settings) -> Policy:
    """A stored policy, enabled or not, as decisions take it."""
    return read_policy(row["id"], row["effect"], row["resource_type"], row["action"], row["priority"], row["condition"], limits(settings))


def _reason(denied_by: str | None, allowed_by: str | None, *, default_deny: bool) -> str:
    if denied_by is not None:
        return "denied_by_policy"
    if allowed_by is not None:
        return "allowed_by_policy"
    return "default_deny" if default_deny else "default_allow"


def _object(name: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ApiError(ErrorCode.AUTHZ_SIMULATION_INVALID, f"{name} must be an object.", {"field": name})
    return given
