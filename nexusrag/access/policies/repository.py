"""All SQL of policies. A tenant reads those of the platform beside its own; row-level security keeps it from writing them."""

from typing import Any

import orjson

from nexusrag.infra.database import Work

_COLUMNS = "id, tenant_id, name, version, effect, resource_type, action, condition, priority, enabled, created_by, created_at, updated_at"


async def binding(work: Work) -> list[Any]:
    """Every enabled policy that binds the transaction's tenant."""
    rows: list[Any] = await work.raw.fetch(
        "select id, version, effect, resource_type, action, priority, condition from policies "
        "where enabled and (tenant_id = $1 or tenant_id is null)",
        work.tenant_id,
    )
    return rows


async def listed(work: Work, *, include_global: bool) -> list[Any]:
    rows: list[Any] = await work.raw.fetch(
        f"select {_COLUMNS} from policies where tenant_id = $1 or ($2 and tenant_id is null) order by priority desc, id limit 20000",
        work.tenant_id,
        include_global,
    )
    return rows


async def find(work: Work, policy_id: str) -> Any:
    """A policy of the tenant or of the platform, or None."""
    return await work.raw.fetchrow(
        f"select {_COLUMNS} from policies where id = $2 and (tenant_id = $1 or tenant_id is null)", work.tenant_id, policy_id
    )


async def count(work: Work) -> int:
    number: int = await work.raw.fetchval("select count(*) from policies where tenant_id = $1", work.tenant_id)
    return number


async def insert(work: Work, policy_id: str, fields: dict[str, Any], created_by: str) -> Any:
    return await work.raw.fetchrow(
        "insert into policies (tenant_id, id, name, effect, resource_type, action, condition, priority, enabled, created_by) "
        f"values ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $9, $10) returning {_COLUMNS}",
        work.tenant_id, policy_id, *_values(fields), created_by,
    )  # fmt: skip


async def update(work: Work, policy_id: str, fields: dict[str, Any]) -> Any:
    """All fields anew; None when the policy is gone."""
    return await work.raw.fetchrow(
        "update policies set name = $3, effect = $4, resource_type = $5, action = $6, condition = $7::text::jsonb, priority = $8, "
        f"enabled = $9, version = version + 1, updated_at = now() where tenant_id = $1 and id = $2 returning {_COLUMNS}",
        work.tenant_id, policy_id, *_values(fields),
    )  # fmt: skip


async def put_of_platform(work: Work, policy_id: str, fields: dict[str, Any], written_by: str) -> Any:
    return await work.raw.fetchrow(
        f"select {_COLUMNS} from policy_global_put($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9)",
        policy_id,
        *_values(fields),
        written_by,
    )


async def delete(work: Work, policy_id: str) -> bool:
    done: str = await work.raw.execute("delete from policies where tenant_id = $1 and id = $2", work.tenant_id, policy_id)
    return done != "DELETE 0"


def _values(fields: dict[str, Any]) -> list[Any]:
    condition = fields["condition"]
    return [
        fields["name"], fields["effect"], fields["resource_type"], fields["action"],
        None if condition is None else orjson.dumps(condition).decode(), fields["priority"], fields["enabled"],
    ]  # fmt: skip
