"""All SQL of quotas. Statements act in the transaction's tenant, which for operators is the one that they named."""

from dataclasses import asdict, fields
from typing import Any

from nexusrag.billing.quotas.limits import Override
from nexusrag.infra.database import Work

_COLUMNS = tuple(field.name for field in fields(Override))
_SAVE = (
    f"insert into quota_limits (tenant_id, updated_by, {', '.join(_COLUMNS)}) "
    f"values ($1, $2, {', '.join(f'${place}' for place in range(3, 3 + len(_COLUMNS)))}) on conflict (tenant_id) do update set "
    f"updated_at = now(), updated_by = excluded.updated_by, {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
)


async def find(work: Work) -> Override:
    """What operators set for the tenant."""
    return _override(await work.raw.fetchrow(f"select {', '.join(_COLUMNS)} from quota_limits where tenant_id = $1", work.tenant_id))


async def locked(work: Work) -> Override:
    """The same, so that nobody changes it before this transaction ends."""
    await work.raw.execute("insert into quota_limits (tenant_id) values ($1) on conflict do nothing", work.tenant_id)
    return _override(
        await work.raw.fetchrow(f"select {', '.join(_COLUMNS)} from quota_limits where tenant_id = $1 for update", work.tenant_id)
    )


async def save(work: Work, override: Override, by: str) -> None:
    await work.raw.execute(_SAVE, work.tenant_id, by, *asdict(override).values())


def _override(row: Any) -> Override:
    return Override(**row) if row is not None else Override()
