"""Plans as the command line assigns them, with the driver alone."""

from typing import Any

import asyncpg

from nexusrag.infra.commands import acting_in
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature, PlanId, entitled, plan_in_force
from nexusrag.security.audit.provision import record

_STATES = {"on": True, "off": False, "default": None}


async def describe(connection: "asyncpg.Connection[Any]", tenant: str, default: str) -> dict[str, Any]:
    """The tenant's plan in force and its features. `default` is the setting DEFAULT_PLAN. Raises ValueError for an unknown tenant."""
    async with acting_in(connection, tenant):
        row = await connection.fetchrow(
            "select t.is_home, p.plan_id, p.effective_to from tenants t left join tenant_plans p "
            "on p.tenant_id = t.id and (p.effective_to is null or p.effective_to > now()) where t.id = $1",
            tenant,
        )
        if row is None:
            raise _unknown(tenant)
        overrides = dict(
            await connection.fetch(
                "select feature_key, enabled from feature_overrides where tenant_id = $1 and enabled is not null", tenant
            )
        )
    plan = plan_in_force(row["plan_id"], row["is_home"], default)
    on = entitled(plan, overrides)
    return {
        "tenant_id": tenant,
        "plan_id": plan.value,
        "effective_to": row["effective_to"],
        "features": {feature.value: feature in on for feature in Feature},
        "overridden": sorted(overrides),
    }


async def assign(connection: "asyncpg.Connection[Any]", tenant: str, plan_id: str) -> None:
    """Assign a plan without an end. Raises ValueError for an unknown tenant or plan."""
    if plan_id not in set(PlanId):
        raise ValueError(f"There is no plan {plan_id!r}: use {', '.join(PlanId)}.")
    async with acting_in(connection, tenant):
        await _demand(connection, tenant)
        await connection.execute(
            "insert into tenant_plans (tenant_id, plan_id, assigned_by) values ($1, $2, 'cli') on conflict (tenant_id) do update "
            "set plan_id = excluded.plan_id, effective_from = now(), effective_to = null, assigned_by = excluded.assigned_by",
            tenant,
            plan_id,
        )
        plans = list(PlanId)
        await connection.execute(
            "update plan_upgrade_requests set status = 'approved' where tenant_id = $1 and target_plan = any($2) and status = 'open'",
            tenant,
            plans[: plans.index(PlanId(plan_id)) + 1],
        )
        await _changed(connection, tenant, EventType.PLAN_ASSIGNED, {"plan_id": plan_id})


async def switch(connection: "asyncpg.Connection[Any]", tenant: str, feature_key: str, state: str) -> None:
    """Switch a feature `on` or `off` for this tenant alone, or leave it to the plan (`default`).

    Raises ValueError for an unknown tenant, feature or state.
    """
    if feature_key not in set(Feature):
        raise ValueError(f"There is no feature {feature_key!r}; `nexusrag plans list` names them.")
    if state not in _STATES:
        raise ValueError(f"A feature is switched on, off or default (got {state!r}).")
    async with acting_in(connection, tenant):
        await _demand(connection, tenant)
        if state == "default":
            await connection.execute("delete from feature_overrides where tenant_id = $1 and feature_key = $2", tenant, feature_key)
        else:
            await connection.execute(
                "insert into feature_overrides (tenant_id, feature_key, enabled, updated_by) values ($1, $2, $3, 'cli') "
                "on conflict (tenant_id, feature_key) do update set enabled = $3, updated_by = 'cli', updated_at = now()",
                tenant,
                feature_key,
                _STATES[state],
            )
        await _changed(connection, tenant, EventType.PLAN_FEATURE_OVERRIDDEN, {"feature_key": feature_key, "enabled": _STATES[state]})


async def _demand(connection: "asyncpg.Connection[Any]", tenant: str) -> None:
    if await connection.fetchval("select id from tenants where id = $1", tenant) is None:
        raise _unknown(tenant)


async def _changed(connection: "asyncpg.Connection[Any]", tenant: str, event: EventType, metadata: dict[str, Any]) -> None:
    """Every process forgets what it knew of the tenant's callers."""
    await connection.execute("select pg_notify('nexusrag_changes', $1)", f"tenant {tenant}")
    await record(connection, tenant, event, "plan", tenant, metadata)


def _unknown(tenant: str) -> ValueError:
    return ValueError(f"There is no tenant {tenant!r}.")
