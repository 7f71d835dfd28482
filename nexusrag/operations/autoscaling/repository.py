"""All SQL of autoscaling."""

from collections.abc import Mapping
from typing import Any

import orjson

from nexusrag.infra.database import Work

_SET = (
    "name", "route_class", "min_replicas", "max_replicas", "target_p95_ms", "target_queue_depth", "cooldown_seconds", "step_up",
    "step_down", "enabled",
)  # fmt: skip
_PROFILE = f"id, tenant_id, scope, {', '.join(_SET)}, replicas, last_applied_at, created_by, created_at, updated_at"
_ACTION = (
    "id, profile_id, route_class, action, reason, current_replicas, recommended_replicas, status, executor, signals, created_by, created_at"
)


async def profiles(work: Work) -> list[Any]:
    rows: list[Any] = await work.raw.fetch(
        f"select {_PROFILE} from autoscaling_profiles where tenant_id = $1 order by created_at, id limit 200", work.tenant_id
    )
    return rows


async def count(work: Work) -> int:
    number: int = await work.raw.fetchval("select count(*) from autoscaling_profiles where tenant_id = $1", work.tenant_id)
    return number


async def find(work: Work, profile_id: str, *, lock: bool = False) -> Any:
    """The profile with `cooling_s`, the seconds until it may be applied again; `lock`: nobody else applies it meanwhile."""
    return await work.raw.fetchrow(
        f"select {_PROFILE}, coalesce(greatest(0, ceil(extract(epoch from "
        "last_applied_at + make_interval(secs => cooldown_seconds) - now()))), 0)::integer as cooling_s "
        f"from autoscaling_profiles where tenant_id = $1 and id = $2{' for update' if lock else ''}",
        work.tenant_id,
        profile_id,
    )


async def insert(work: Work, profile_id: str, scope: str, fields: Mapping[str, Any], by: str) -> Any:
    return await work.raw.fetchrow(
        f"insert into autoscaling_profiles (tenant_id, id, scope, created_by, {', '.join(_SET)}) "
        f"values ($1, $2, $3, $4, {_places(5)}) returning {_PROFILE}",
        work.tenant_id, profile_id, scope, by, *(fields[name] for name in _SET),
    )  # fmt: skip


async def update(work: Work, profile_id: str, fields: Mapping[str, Any]) -> Any:
    """All fields anew; None when the profile is gone."""
    return await work.raw.fetchrow(
        f"update autoscaling_profiles set ({', '.join(_SET)}) = row({_places(3)}), updated_at = now() "
        f"where tenant_id = $1 and id = $2 returning {_PROFILE}",
        work.tenant_id, profile_id, *(fields[name] for name in _SET),
    )  # fmt: skip


async def begin_cooldown(work: Work, profile_id: str, replicas: int) -> None:
    await work.raw.execute(
        "update autoscaling_profiles set last_applied_at = now(), replicas = $3 where tenant_id = $1 and id = $2",
        work.tenant_id, profile_id, replicas,
    )  # fmt: skip


async def end_cooldown(work: Work, profile_id: str, replicas: int | None, action_id: str) -> None:
    """What was begun was not done. The cooldown of a later action stays."""
    await work.raw.execute(
        "update autoscaling_profiles p set last_applied_at = null, replicas = $3 from autoscaling_actions a where p.tenant_id = $1 "
        "and p.id = $2 and a.tenant_id = $1 and a.id = $4 and p.last_applied_at = a.created_at",
        work.tenant_id, profile_id, replicas, action_id,
    )  # fmt: skip


async def insert_action(work: Work, action_id: str, fields: Mapping[str, Any]) -> Any:
    return await work.raw.fetchrow(
        "insert into autoscaling_actions (tenant_id, id, profile_id, route_class, action, reason, current_replicas, recommended_replicas, "
        "status, executor, signals, created_by) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12) "
        f"returning {_ACTION}",
        work.tenant_id, action_id, fields["profile_id"], fields["route_class"], fields["action"], fields["reason"],
        fields["current_replicas"], fields["recommended_replicas"], fields["status"], fields["executor"],
        orjson.dumps(fields["signals"]).decode(), fields["created_by"],
    )  # fmt: skip


async def end_action(work: Work, action_id: str, status: str) -> Any:
    return await work.raw.fetchrow(
        f"update autoscaling_actions set status = $3 where tenant_id = $1 and id = $2 returning {_ACTION}",
        work.tenant_id,
        action_id,
        status,
    )


async def end_interrupted(work: Work, profile_id: str, older_than_s: float) -> int:
    """Fail the profile's actions that are pending for longer than anybody works on one, and end their cooldown; how many there were."""
    number: int = await work.raw.fetchval(
        "with ended as (update autoscaling_actions set status = 'failed', reason = 'interrupted' where tenant_id = $1 and profile_id = $2 "
        "and status = 'pending' and created_at < now() - make_interval(secs => $3) returning current_replicas, created_at), "
        "freed as (update autoscaling_profiles p set last_applied_at = null, replicas = ended.current_replicas from ended "
        "where p.tenant_id = $1 and p.id = $2 and p.last_applied_at = ended.created_at) "  # not that of a later one
        "select count(*) from ended",
        work.tenant_id, profile_id, older_than_s,
    )  # fmt: skip
    return number


async def actions(work: Work, profile_id: str | None, limit: int) -> list[Any]:
    rows: list[Any] = await work.raw.fetch(
        f"select {_ACTION} from autoscaling_actions where tenant_id = $1 and ($2::text is null or profile_id = $2) "
        "order by created_at desc, id desc limit $3",
        work.tenant_id, profile_id, limit,
    )  # fmt: skip
    return rows


async def take(work: Work, every_s: int, limit: int) -> list[Any]:
    """Profiles whose evaluation is due, with their tenants; nobody else gets them now."""
    rows: list[Any] = await work.raw.fetch("select * from autoscaling_take(make_interval(secs => $1), $2)", every_s, limit)
    return rows


async def queue_depth(work: Work, queue: str) -> int:
    depth: int = await work.raw.fetchval("select queued from jobs_depth($1)", queue)
    return depth


def _places(first: int) -> str:
    return ", ".join(f"${number}" for number in range(first, first + len(_SET)))
