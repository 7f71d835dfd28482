"""All SQL of service levels."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from nexusrag.infra.database import Work

_POLICY = "id, tenant_id, name, tier, version, enabled, config, created_by, created_at, updated_at"
_ASSIGNMENT = "tenant_id, policy_id, effective_from, effective_to, override, evaluated_to, updated_by, created_at, updated_at"
_INCIDENT = "id, tenant_id, policy_id, policy_version, route_class, status, evidence, window_end, opened_at, resolved_at, resolved_by"
_CELL = "route_class, window_start, process, count, failures, sketch, first_event"
Measured = tuple[str, str, datetime, int, int, bytes, bytes]


# Policies


async def policies(work: Work, *, include_global: bool) -> list[Any]:
    rows: list[Any] = await work.raw.fetch(
        f"select {_POLICY} from sla_policies where tenant_id = $1 or ($2 and tenant_id is null) order by created_at, id limit 1000",
        work.tenant_id,
        include_global,
    )
    return rows


async def count_policies(work: Work) -> int:
    number: int = await work.raw.fetchval("select count(*) from sla_policies where tenant_id = $1", work.tenant_id)
    return number


async def find_policy(work: Work, policy_id: str) -> Any:
    """A policy of the tenant or of the platform, or None."""
    return await work.raw.fetchrow(
        f"select {_POLICY} from sla_policies where id = $2 and (tenant_id = $1 or tenant_id is null)", work.tenant_id, policy_id
    )


async def hold_policy(work: Work, policy_id: str) -> None:
    """Nobody else changes the policy, or puts a tenant under it, before the transaction ends."""
    await work.raw.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"sla_policy/{policy_id}")


async def overrides(work: Work, policy_id: str) -> list[Any]:
    """What differs for each tenant that is assigned to the policy, with the tenant."""
    rows: list[Any] = await work.raw.fetch("select tenant_id, override from sla_overrides($1)", policy_id)
    return rows


async def insert_policy(work: Work, policy_id: str, fields: Mapping[str, Any], by: str) -> Any:
    return await work.raw.fetchrow(
        "insert into sla_policies (tenant_id, id, name, tier, version, enabled, config, created_by) "
        f"values ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8) returning {_POLICY}",
        work.tenant_id, policy_id, *_policy_values(fields), by,
    )  # fmt: skip


async def update_policy(work: Work, policy_id: str, fields: Mapping[str, Any]) -> Any:
    """All fields anew; None when the policy is gone."""
    return await work.raw.fetchrow(
        "update sla_policies set name = $3, tier = $4, version = $5, enabled = $6, config = $7::text::jsonb, updated_at = now() "
        f"where tenant_id = $1 and id = $2 returning {_POLICY}",
        work.tenant_id, policy_id, *_policy_values(fields),
    )  # fmt: skip


async def put_policy_of_platform(work: Work, policy_id: str, fields: Mapping[str, Any], by: str) -> Any:
    return await work.raw.fetchrow(
        f"select {_POLICY} from sla_policy_global_put($1, $2, $3, $4, $5, $6::text::jsonb, $7)", policy_id, *_policy_values(fields), by
    )


def _policy_values(fields: Mapping[str, Any]) -> list[Any]:
    return [fields["name"], fields["tier"], fields["version"], fields["enabled"], _json(fields["config"])]


# Assignments


async def find_assignment(work: Work) -> Any:
    return await work.raw.fetchrow(f"select {_ASSIGNMENT} from sla_assignments where tenant_id = $1", work.tenant_id)


async def put_assignment(
    work: Work, policy_id: str, effective_from: datetime | None, effective_to: datetime | None, override: Mapping[str, Any] | None, by: str
) -> Any:
    """The tenant's assignment, anew: what happened under the former one counts no more."""
    # Its row first: whoever judges holds that one before it writes states.
    row = await work.raw.fetchrow(
        "insert into sla_assignments (tenant_id, policy_id, effective_from, effective_to, override, updated_by) "
        "values ($1, $2, coalesce($3, now()), $4, $5::text::jsonb, $6) on conflict (tenant_id) do update "
        "set policy_id = excluded.policy_id, effective_from = excluded.effective_from, "
        "effective_to = excluded.effective_to, override = excluded.override, "
        f"updated_by = excluded.updated_by, evaluated_to = null, updated_at = now() returning {_ASSIGNMENT}",
        work.tenant_id, policy_id, effective_from, effective_to, None if override is None else _json(override), by,
    )  # fmt: skip
    await work.raw.execute("delete from sla_states where tenant_id = $1", work.tenant_id)
    return row


# Measurements


async def record(work: Work, process: str, rows: Sequence[Measured]) -> None:
    """Write one process's cells; without any, that it reports."""
    columns = list(map(list, zip(*rows, strict=True))) if rows else [[]] * 7
    await work.raw.execute("select sla_record($1, $2, $3, $4, $5, $6, $7, $8)", process, *columns)


async def measured(work: Work, since: datetime, until: datetime) -> list[Any]:
    """The transaction's tenant's cells of the windows that begin in this time."""
    rows: list[Any] = await work.raw.fetch(
        f"select {_CELL} from sla_measurements where tenant_id = $1 and window_start >= $2 and window_start < $3 order by window_start",
        work.tenant_id, since, until,
    )  # fmt: skip
    return rows


async def measured_of_everybody(work: Work, since: datetime, until: datetime) -> list[Any]:
    rows: list[Any] = await work.raw.fetch(
        f"select {_CELL} from sla_totals where window_start >= $1 and window_start < $2 order by window_start", since, until
    )
    return rows


async def reported_within(work: Work, seconds: float) -> bool:
    """Whether every process that ever reported lately has: nobody fell silent in the middle of something."""
    silent: bool = await work.raw.fetchval(
        "select coalesce(max(reported_at) < now() - make_interval(secs => $1), false) from sla_reporters", seconds
    )
    return not silent


async def prune(work: Work, hours: int, limit: int) -> int:
    removed: int = await work.raw.fetchval("select sla_prune(make_interval(hours => $1), $2)", hours, limit)
    return removed


# How tenants stand


async def now(work: Work) -> datetime:
    """The database's clock, by which windows are judged, whoever judges."""
    moment: datetime = await work.raw.fetchval("select now()")
    return moment


async def directory(work: Work) -> list[Any]:
    rows: list[Any] = await work.raw.fetch("select * from sla_directory()")
    return rows


async def due(work: Work, end: datetime, limit: int) -> list[str]:
    return [row["sla_due"] for row in await work.raw.fetch("select sla_due($1, $2)", end, limit)]


async def take(work: Work, end: datetime) -> Any:
    """The tenant's assignment with its policy, for whoever judges its windows up to `end`; None when another one does or did."""
    return await work.raw.fetchrow(
        "select a.evaluated_to, a.override, p.id, p.version, p.config from sla_assignments a join sla_policies p on p.id = a.policy_id "
        "where a.tenant_id = $1 and p.enabled and a.effective_from <= now() and (a.effective_to is null or a.effective_to > now()) "
        "and (a.evaluated_to is null or a.evaluated_to < $2) for update of a skip locked",
        work.tenant_id,
        end,
    )


async def hold_assignment(work: Work) -> None:
    """Nobody judges the tenant before the transaction ends."""
    await work.raw.execute("select from sla_assignments where tenant_id = $1 for update", work.tenant_id)


async def judged(work: Work, end: datetime) -> None:
    await work.raw.execute("update sla_assignments set evaluated_to = $2 where tenant_id = $1", work.tenant_id, end)


async def states(work: Work) -> list[Any]:
    rows: list[Any] = await work.raw.fetch("select * from sla_states where tenant_id = $1", work.tenant_id)
    return rows


async def put_state(work: Work, route_class: str, fields: Mapping[str, Any]) -> None:
    await work.raw.execute(
        "insert into sla_states (tenant_id, route_class, policy_id, policy_version, status, decision, signal, bad, good, window_end, "
        "evidence) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb) on conflict (tenant_id, route_class) do update set "
        "policy_id = $3, policy_version = $4, status = $5, decision = $6, signal = $7, bad = $8, good = $9, window_end = $10, "
        "evidence = $11::text::jsonb",
        work.tenant_id, route_class, fields["policy_id"], fields["policy_version"], fields["status"], fields["decision"],
        fields["signal"], fields["bad"], fields["good"], fields["window_end"], _json(fields["evidence"]),
    )  # fmt: skip


async def forget_state(work: Work, route_class: str) -> None:
    await work.raw.execute("delete from sla_states where tenant_id = $1 and route_class = $2", work.tenant_id, route_class)


async def breached_with(work: Work, profile_id: str, *, platform: bool) -> bool:
    """Whether the tenant breaches a policy that is linked to this autoscaling profile, or `platform` any tenant one of the platform's."""
    found: bool = await work.raw.fetchval("select sla_breached_with($1, $2, $3)", work.tenant_id, profile_id, platform)
    return found


# Incidents


async def incidents(work: Work, status: str | None) -> list[Any]:
    rows: list[Any] = await work.raw.fetch(
        f"select {_INCIDENT} from sla_incidents where tenant_id = $1 and ($2::text is null or status = $2) "
        "order by opened_at desc, id desc limit 200",
        work.tenant_id,
        status,
    )
    return rows


async def find_incident(work: Work, incident_id: str) -> Any:
    return await work.raw.fetchrow(f"select {_INCIDENT} from sla_incidents where tenant_id = $1 and id = $2", work.tenant_id, incident_id)


async def open_classes(work: Work) -> set[str]:
    """The classes of routes that have an open incident."""
    rows = await work.raw.fetch("select route_class from sla_incidents where tenant_id = $1 and status = 'open'", work.tenant_id)
    return {row["route_class"] for row in rows}


async def open_incident(
    work: Work, incident_id: str, route_class: str, policy_id: str, policy_version: int, window_end: datetime, evidence: Mapping[str, Any]
) -> bool:
    """Whether it was opened: there is one at a time for each class of routes."""
    done: str = await work.raw.execute(
        "insert into sla_incidents (tenant_id, id, route_class, policy_id, policy_version, window_end, evidence) "
        "values ($1, $2, $3, $4, $5, $6, $7::text::jsonb) on conflict (tenant_id, route_class) where status = 'open' do nothing",
        work.tenant_id, incident_id, route_class, policy_id, policy_version, window_end, _json(evidence),
    )  # fmt: skip
    return done != "INSERT 0 0"


async def unbound(work: Work, limit: int) -> list[str]:
    """Tenants with an open incident whom no policy binds any more."""
    return [row["sla_unbound"] for row in await work.raw.fetch("select sla_unbound($1)", limit)]


async def resolve_incidents(work: Work, route_class: str, by: str) -> list[Any]:
    """Resolve what is open for a class; id and policy_id of each."""
    rows = await work.raw.fetch(
        "update sla_incidents set status = 'resolved', resolved_at = now(), resolved_by = $3 "
        "where tenant_id = $1 and route_class = $2 and status = 'open' returning id, policy_id",
        work.tenant_id, route_class, by,
    )  # fmt: skip
    return list(rows)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
