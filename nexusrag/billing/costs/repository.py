"""All SQL of costs: prices, budgets, what was spent, reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

import orjson

from nexusrag.billing.costs.budgets import Agreed
from nexusrag.billing.costs.prices import Price
from nexusrag.infra.database import Work

Mark = Literal["warned", "capped", "degraded"]
_PRICE = "id, version, provider, component, rate_type, rate_value_usd, effective_from, effective_to, active, metadata_json, created_at"
_BUDGET = (
    "monthly_budget_usd, warn_ratio, enforce_hard_cap, hard_cap_mode, current_month_override_usd, override_month, created_at, updated_at"
)
# Amounts as text: JSON has no other exact form.
_TERMS = (
    "select b.monthly_budget_usd, b.warn_ratio, b.enforce_hard_cap, b.hard_cap_mode, b.current_month_override_usd, b.override_month, "
    "(select jsonb_agg(jsonb_build_array(p.id, p.version, p.provider, p.component, p.rate_type, p.rate_value_usd::text, p.effective_from, "
    "p.effective_to)) from prices p where p.tenant_id = $1 and p.active) as prices "
    "from (select 1) one left join budgets b on b.tenant_id = $1"
)
_OVERLAPPING = (
    "select id, version, effective_from, effective_to from prices where tenant_id = $1 and provider = $2 and component = $3 "
    "and rate_type = $4 and active and id <> $5 and tstzrange(effective_from, effective_to) && tstzrange($6, $7) "
    "order by effective_from, id limit 1"
)
_PUT_BUDGET = (
    "insert into budgets as b (tenant_id, monthly_budget_usd, warn_ratio, enforce_hard_cap, hard_cap_mode, current_month_override_usd, "
    "override_month, updated_by) values ($1, $2, $3, $4, $5, $6, case when $6::numeric is null then null else $7::date end, $8) "
    "on conflict (tenant_id) do update set "
    "monthly_budget_usd = case when 'monthly_budget_usd' = any($9) then $2 else b.monthly_budget_usd end, "
    "warn_ratio = case when 'warn_ratio' = any($9) then $3 else b.warn_ratio end, "
    "enforce_hard_cap = case when 'enforce_hard_cap' = any($9) then $4 else b.enforce_hard_cap end, "
    "hard_cap_mode = case when 'hard_cap_mode' = any($9) then $5 else b.hard_cap_mode end, "
    "current_month_override_usd = case when 'current_month_override_usd' = any($9) then $6 else b.current_month_override_usd end, "
    "override_month = case when 'current_month_override_usd' = any($9) then excluded.override_month else b.override_month end, "
    # Another budget, other warnings.
    "warned_month = null, capped_month = null, degraded_month = null, updated_at = now(), updated_by = $8 "
    f"returning {_BUDGET}"
)
_GROUPS = {
    "component": "l.component",
    "provider": "l.provider",
    "route_class": "l.route_class",
    "model": "coalesce(l.model, '')",
    "user": "coalesce(e.user_id, '')",
    "key": "coalesce(e.credential_id, '')",
}
_ENTRY = "left join ledger e on e.tenant_id = l.tenant_id and e.subject = l.subject"
# Both ends of a period, by the day (which the index has) and then exactly.
_WITHIN = (
    "l.tenant_id = $1 and l.day between ($2::timestamptz at time zone 'utc')::date and ($3::timestamptz at time zone 'utc')::date "
    "and l.at >= $2 and l.at < $3"
)
_REPORT = "id, tenant_id, period_start, period_end, currency, total_usd, {breakdown}, generated_at, generated_by"


@dataclass(frozen=True, slots=True)
class Spent:
    """What a tenant has spent in a month. `usd` counts what is `held` by work under way; `estimated`: some of it is a guess."""

    usd: Decimal
    held: Decimal
    estimated: bool


async def terms(work: Work) -> tuple[Agreed, list[Price]]:
    """What the tenant's admins agreed to: the budget, and the active prices of all times."""
    row: Any = await work.raw.fetchrow(_TERMS, work.tenant_id)
    return agreed(row), [_of_json(fields) for fields in row["prices"] or ()]


def _of_json(fields: list[Any]) -> Price:
    price_id, version, provider, component, rate_type, rate, begins, ends = fields
    until = datetime.fromisoformat(ends) if ends else None
    return Price(price_id, version, provider, component, rate_type, Decimal(rate), datetime.fromisoformat(begins), until)


def agreed(row: Any) -> Agreed:
    """The budget in a row."""
    return Agreed(
        row["monthly_budget_usd"],
        row["warn_ratio"],
        row["enforce_hard_cap"],
        row["hard_cap_mode"],
        row["current_month_override_usd"],
        row["override_month"],
    )


async def spent(work: Work, tenants: Sequence[str], month: date) -> dict[str, Spent]:
    """What each of `tenants` has spent in the month that begins with `month`; `work` may be of any tenant or none."""
    rows = await work.raw.fetch("select * from costs_spend($1, $2)", list(tenants), month)
    return {row["tenant_id"]: Spent(row["usd"], row["held_usd"], row["estimated"]) for row in rows}


async def lock_prices(work: Work) -> None:
    """Nobody else writes prices of the tenant until this transaction ends."""
    await work.raw.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"prices {work.tenant_id}")


async def overlapping(work: Work, price: Price) -> Any:
    """The first active price of the same provider, component and rate type that is in force at some time of `price`, or None."""
    return await work.raw.fetchrow(
        _OVERLAPPING, work.tenant_id, price.provider, price.component, price.rate_type, price.id, price.effective_from, price.effective_to
    )


async def insert_price(work: Work, price: Price, metadata: Mapping[str, Any] | None, by: str) -> Any:
    return await work.raw.fetchrow(
        "insert into prices (tenant_id, id, version, provider, component, rate_type, rate_value_usd, effective_from, effective_to, active, "
        f"metadata_json, created_by) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12) returning {_PRICE}",
        work.tenant_id, price.id, price.version, price.provider, price.component, price.rate_type, price.rate_usd, price.effective_from,
        price.effective_to, price.active, None if metadata is None else orjson.dumps(metadata).decode(), by,
    )  # fmt: skip


async def change_price(work: Work, price_id: str, effective_to: datetime | None, active: bool) -> Any:
    return await work.raw.fetchrow(
        f"update prices set effective_to = $3, active = $4 where tenant_id = $1 and id = $2 returning {_PRICE}",
        work.tenant_id,
        price_id,
        effective_to,
        active,
    )


async def price(work: Work, price_id: str) -> Any:
    return await work.raw.fetchrow(f"select {_PRICE} from prices where tenant_id = $1 and id = $2", work.tenant_id, price_id)


async def prices(work: Work, active: bool | None) -> list[Any]:
    """The tenant's own, the newest first."""
    rows: list[Any] = await work.raw.fetch(
        f"select {_PRICE} from prices where tenant_id = $1 and ($2::boolean is null or active = $2) order by effective_from desc, id desc",
        work.tenant_id,
        active,
    )
    return rows


async def budget(work: Work) -> Any:
    """The row of what was set, or None."""
    return await work.raw.fetchrow(f"select {_BUDGET} from budgets where tenant_id = $1", work.tenant_id)


async def put_budget(work: Work, given: Mapping[str, Any], month: date, by: str) -> Any:
    """Set what is `given`, by the names of columns, and leave the rest as it is."""
    return await work.raw.fetchrow(
        _PUT_BUDGET, work.tenant_id, given.get("monthly_budget_usd"), given.get("warn_ratio"), given.get("enforce_hard_cap"),
        given.get("hard_cap_mode"), given.get("current_month_override_usd"), month, by, list(given),
    )  # fmt: skip


async def mark(work: Work, what: Mark, month: date) -> bool:
    """True for the first who marks this month of the tenant."""
    column = f"{what}_month"
    marked = await work.raw.fetchval(
        f"update budgets set {column} = $2 where tenant_id = $1 and {column} is distinct from $2 returning true", work.tenant_id, month
    )
    return bool(marked)


async def sums(work: Work, by: Sequence[str], start: datetime, end: datetime) -> dict[tuple[str, ...], Decimal]:
    """Settled dollars from `start` up to, not including, `end`, exactly, by the named groups."""
    names = [_GROUPS[name] for name in by]
    join = _ENTRY if {"user", "key"} & set(by) else ""
    grouped = ", ".join(names)
    rows = await work.raw.fetch(
        f"select {grouped}, sum(l.usd) as usd from ledger_lines l {join} where {_WITHIN} group by {grouped}", work.tenant_id, start, end
    )
    return {tuple(str(part) for part in tuple(row)[:-1]): row["usd"] for row in rows}


async def sums_by_time(work: Work, unit: Literal["hour", "day"], start: datetime, end: datetime) -> dict[datetime, Decimal]:
    """The same by the UTC hour or day in which the work began."""
    rows = await work.raw.fetch(
        f"select date_trunc($4, l.at, 'UTC') as bucket, sum(l.usd) as usd from ledger_lines l where {_WITHIN} group by 1",
        work.tenant_id, start, end, unit,
    )  # fmt: skip
    return {row["bucket"]: row["usd"] for row in rows}


async def billed(work: Work, start: datetime, end: datetime) -> list[Any]:
    """What a report of the period is made of: quantities and exact dollars by everything that somebody may be charged by."""
    rows: list[Any] = await work.raw.fetch(
        "select l.component, l.provider, l.model, l.rate_type, l.route_class, e.user_id, e.credential_id, sum(l.quantity) as quantity, "
        "sum(l.usd) as usd, sum(l.usd) filter (where l.estimated) as estimated_usd, "
        "sum(l.quantity) filter (where l.price_id is null) as unpriced "
        f"from ledger_lines l {_ENTRY} where {_WITHIN} group by 1, 2, 3, 4, 5, 6, 7 order by 1, 2, 3, 4, 5, 6, 7",
        work.tenant_id, start, end,
    )  # fmt: skip
    return rows


async def is_open(work: Work, start: datetime, end: datetime) -> bool:
    """Whether work that began in the period is still under way."""
    found: bool = await work.raw.fetchval(
        "select exists (select from ledger where tenant_id = $1 and state = 'held' and held_at >= $2 and held_at < $3)",
        work.tenant_id,
        start,
        end,
    )
    return found


async def insert_report(
    work: Work, report_id: str, start: datetime, end: datetime, total: Decimal, breakdown: Mapping[str, Any], by: str
) -> Any:
    return await work.raw.fetchrow(
        "insert into chargeback_reports (tenant_id, id, period_start, period_end, currency, total_usd, breakdown_json, generated_by) "
        f"values ($1, $2, $3, $4, 'USD', $5, $6::text::jsonb, $7) returning {_REPORT.format(breakdown='breakdown_json')}",
        work.tenant_id, report_id, start, end, total, orjson.dumps(breakdown).decode(), by,
    )  # fmt: skip


async def report(work: Work, report_id: str | None) -> Any:
    """A report whole, the newest where none is named; None where there is none."""
    return await work.raw.fetchrow(
        f"select {_REPORT.format(breakdown='breakdown_json')} from chargeback_reports "
        "where tenant_id = $1 and ($2::text is null or id = $2) order by generated_at desc, id desc limit 1",
        work.tenant_id,
        report_id,
    )


async def reports(work: Work, limit: int) -> list[Any]:
    """The newest reports, without their lines."""
    breakdown = "breakdown_json - 'lines' as breakdown_json"
    rows: list[Any] = await work.raw.fetch(
        f"select {_REPORT.format(breakdown=breakdown)} from chargeback_reports where tenant_id = $1 "
        "order by generated_at desc, id desc limit $2",
        work.tenant_id,
        limit,
    )
    return rows


async def stored(work: Work, subject: str, limit: int) -> list[tuple[str, int]]:
    """Tenants that were not charged under `subject`, with the bytes of their documents. `work` is of no tenant."""
    rows = await work.raw.fetch("select tenant_id, stored_bytes from costs_stored($1, $2)", subject, limit)
    return [(row["tenant_id"], row["stored_bytes"]) for row in rows]
