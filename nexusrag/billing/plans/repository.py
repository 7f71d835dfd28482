"""All SQL of plans. Statements act in the transaction's tenant, which for operators is the one that they named."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import orjson

from nexusrag.infra.database import Work

_FIND = (
    "select t.is_home, p.plan_id, p.effective_from, p.effective_to, "
    "(select jsonb_object_agg(o.feature_key, jsonb_build_object('enabled', o.enabled, 'config', o.config)) "
    "from feature_overrides o where o.tenant_id = t.id) as overrides "
    "from tenants t left join tenant_plans p on p.tenant_id = t.id and (p.effective_to is null or p.effective_to > now()) where t.id = $1"
)
_PUT = (
    "insert into feature_overrides (tenant_id, feature_key, enabled, config, updated_by) values ($1, $2, $3, $4::text::jsonb, $5) "
    "on conflict (tenant_id, feature_key) do update set enabled = case when $6 then $3 else feature_overrides.enabled end, "
    "config = case when $7 then $4::text::jsonb else feature_overrides.config end, updated_by = $5, updated_at = now()"
)
# One that neither switches nor configures anything is none.
_SWEEP = "delete from feature_overrides where tenant_id = $1 and feature_key = $2 and enabled is null and config is null"


async def find(work: Work) -> Any:
    """Whether the tenant is the home tenant, the assignment in force, and the overrides by feature key."""
    return await work.raw.fetchrow(_FIND, work.tenant_id)


async def assign(work: Work, plan_id: str, effective_to: datetime | None, by: str) -> None:
    await work.raw.execute(
        "insert into tenant_plans (tenant_id, plan_id, effective_to, assigned_by) values ($1, $2, $3, $4) on conflict (tenant_id) "
        "do update set plan_id = excluded.plan_id, effective_from = now(), effective_to = excluded.effective_to, assigned_by = $4",
        work.tenant_id,
        plan_id,
        effective_to,
        by,
    )


async def put_override(
    work: Work, feature_key: str, enabled: bool | None, config: dict[str, Any] | None, by: str, *, switches: bool, configures: bool
) -> None:
    """Override a feature in what is `switches` and `configures`; with nothing left to override, not at all."""
    stored = None if config is None else orjson.dumps(config).decode()
    await work.raw.execute(_PUT, work.tenant_id, feature_key, enabled, stored, by, switches, configures)
    await work.raw.execute(_SWEEP, work.tenant_id, feature_key)


async def request_upgrade(work: Work, target_plan: str, reason: str | None, by: str) -> Any:
    """The open request for this plan, made unless there is one (`made`)."""
    return await work.raw.fetchrow(
        "insert into plan_upgrade_requests (tenant_id, target_plan, reason, requested_by) values ($1, $2, $3, $4) "
        "on conflict (tenant_id, target_plan) where status = 'open' "
        "do update set reason = coalesce(excluded.reason, plan_upgrade_requests.reason) returning id, status, xmax = 0 as made",
        work.tenant_id,
        target_plan,
        reason,
        by,
    )


async def open_requests(work: Work) -> list[Any]:
    """Upgrades asked for and not decided, oldest first."""
    rows: list[Any] = await work.raw.fetch(
        "select id as request_id, target_plan, reason, created_at from plan_upgrade_requests "
        "where tenant_id = $1 and status = 'open' order by id",
        work.tenant_id,
    )
    return rows


async def approve_requests(work: Work, plans: Collection[str]) -> None:
    """The tenant has what it asked for."""
    await work.raw.execute(
        "update plan_upgrade_requests set status = 'approved' where tenant_id = $1 and target_plan = any($2) and status = 'open'",
        work.tenant_id,
        list(plans),
    )
