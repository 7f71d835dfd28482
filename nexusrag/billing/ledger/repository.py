"""All SQL of the ledger. The functions that it calls stand in the migration, so that what they do is one round trip."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import orjson

from nexusrag.billing.ledger.entries import Caps, Figures, Line, Noted, PeriodName, Plain, Reservation, Used, Verdict
from nexusrag.infra.database import Work
from nexusrag.kernel import clock

_FIGURES = ", ".join(
    f"(v.{row}).{column} as {row}_{column}"
    for row in ("m", "d")
    for column in ("starts_on", "plain_units", "direct_units", "units", "held_units", "tokens", "held_tokens", "usd", "held_usd")
)
# What `verdict_of` reads off a row of `v`.
VERDICT = f"v.state, v.cause, v.period, v.cap, v.used, {_FIGURES}"
# The arguments of a reservation: `reserving(1)` takes the values of `reserve_values`.
_ARGUMENTS = (
    "text", "text", "text", "integer", "bigint", "numeric", "interval", "text", "text", "timestamptz", "boolean",
    "bigint", "bigint", "bigint", "bigint", "numeric", "boolean",
)  # fmt: skip
_DIRECT = (
    "select case when v.refused then 'refused' else 'held' end as state, v.cause, v.period, v.cap, v.used, "
    f"{_FIGURES} from usage_admit($1, $2, $3, 0, 0, true, false, $4, $5, null, null, null, $6) v"
)
PERIOD_COLUMNS = "period, starts_on, plain_units, direct_units, units, held_units, tokens, held_tokens, usd, held_usd"
_PERIODS = (
    f"select {PERIOD_COLUMNS} from usage_periods "
    "where tenant_id = $1 and ((period = 'day' and starts_on = $2) or (period = 'month' and starts_on = $3))"
)


def reserving(first: int) -> str:
    """The call that reserves, for the FROM of a larger statement: its arguments begin with number `first`."""
    return f"ledger_reserve({', '.join(f'${first + place}::{kind}' for place, kind in enumerate(_ARGUMENTS))}) v"


def reserve_values(work: Work, reservation: Reservation, caps: Caps, at: datetime | None = None) -> list[Any]:
    """The arguments of `reserving`."""
    return [
        work.tenant_id, reservation.subject, reservation.route_class, reservation.units, reservation.tokens, reservation.usd,
        reservation.lasts, reservation.user_id, reservation.credential_id, at or clock.now(), caps.counted,
        caps.day_units, caps.month_units, caps.day_tokens, caps.month_tokens, caps.month_usd, caps.hard,
    ]  # fmt: skip


def verdict_of(row: Any) -> Verdict:
    """A row with the columns of VERDICT."""
    return Verdict(
        state=row["state"],
        figures=Figures(used_of(row, "day", "d_"), used_of(row, "month", "m_")),
        cause=row["cause"],
        period=row["period"],
        limit=row["cap"],
        used=row["used"],
    )


async def reserve(work: Work, reservation: Reservation, caps: Caps, at: datetime | None = None) -> Verdict:
    """Take what the reservation asks for, within the caps, or nothing. A subject is reserved for once."""
    return verdict_of(await work.raw.fetchrow(f"select {VERDICT} from {reserving(1)}", *reserve_values(work, reservation, caps, at)))


def as_json(lines: Sequence[Line]) -> str:
    """Lines as an argument of SQL, with every digit."""
    return orjson.dumps(
        [
            {
                "component": line.component,
                "provider": line.provider,
                "model": line.model,
                "rate_type": line.rate_type,
                "quantity": str(line.quantity),
                "rate_usd": None if line.rate_usd is None else str(line.rate_usd),
                "price_id": line.price_id,
                "usd": str(line.usd),
                "estimated": line.estimated,
            }
            for line in lines
        ]
    ).decode()


async def settle(work: Work, subject: str, lines: Sequence[Line], *, tokens: int, estimated: bool, expired: bool = False) -> bool:
    """Settle what was reserved; an estimate may be settled once more, exactly. False when there was nothing to settle.

    `expired`: it was held for too long, and this is what was reserved. What it was really comes later, or never.
    """
    settled: bool = await work.raw.fetchval(
        "select ledger_settle($1, $2, $3, $4, $5::text::jsonb, $6)", work.tenant_id, subject, tokens, estimated, as_json(lines), expired
    )
    return settled


async def charge(
    work: Work,
    subject: str,
    route_class: str,
    lines: Sequence[Line],
    *,
    tokens: int = 0,
    user_id: str | None = None,
    credential_id: str | None = None,
    at: datetime | None = None,
) -> bool:
    """Charge what was used, at once. False when the subject was charged before: nothing is charged twice.

    `tokens` are those of language models, which quotas limit.
    """
    charged: bool = await work.raw.fetchval(
        "select ledger_charge($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, $9)",
        work.tenant_id, subject, route_class, tokens, any(line.estimated for line in lines), as_json(lines),
        user_id, credential_id, at or clock.now(),
    )  # fmt: skip
    return charged


async def figures(work: Work, at: datetime | None = None) -> Figures:
    """What the tenant has used in the day and the month of `at` (now)."""
    today = (at or clock.now()).date()
    rows = {row["period"]: row for row in await work.raw.fetch(_PERIODS, work.tenant_id, today, today.replace(day=1))}
    day, month = rows.get("day"), rows.get("month")
    return Figures(
        used_of(day, "day") if day else Used("day", today),
        used_of(month, "month") if month else Used("month", today.replace(day=1)),
    )


async def count_directly(work: Work, units: int, caps: Caps, at: datetime | None = None) -> Verdict:
    """Units of one plain request while Redis is away; only the caps of units are looked at."""
    today = (at or clock.now()).date()
    row = await work.raw.fetchrow(_DIRECT, work.tenant_id, today, units, caps.day_units, caps.month_units, caps.hard)
    return verdict_of(row)


async def give_back_directly(work: Work, units: int, at: datetime | None = None) -> None:
    """What `count_directly` took on the day of `at`."""
    await work.raw.execute("select usage_give_back($1, $2, $3)", work.tenant_id, (at or clock.now()).date(), units)


async def flush_plain(work: Work, counted: Sequence[Plain]) -> int:
    """Write what Redis counted, of any tenants: `work` is of none. Returns how many counts were new."""
    written: int = await work.raw.fetchval(
        "select usage_flush_plain($1, $2, $3)",
        [one.tenant_id for one in counted],
        [one.day for one in counted],
        [one.units for one in counted],
    )
    return written


async def note_once(work: Work, what: Noted, period: PeriodName, at: datetime | None = None) -> bool:
    """True for the first who says so of the day or month of `at`."""
    first: bool = await work.raw.fetchval("select usage_note_once($1, $2, $3, $4)", work.tenant_id, what, period, at or clock.now())
    return first


async def expired(work: Work, limit: int) -> list[Any]:
    """Entries of any tenants that were held for too long: tenant_id, subject, held_tokens, held_usd. `work` is of no tenant."""
    rows: list[Any] = await work.raw.fetch("select * from ledger_expired($1)", limit)
    return rows


async def estimates(work: Work, route_class: str, within: timedelta, pause: timedelta, limit: int) -> list[tuple[str, str]]:
    """Tenant and subject of what was settled by estimate within this time, of any tenants: each once in `pause`, whoever asks.

    `work` is of no tenant.
    """
    rows = await work.raw.fetch("select tenant_id, subject from ledger_estimates($1, $2, $3, $4)", route_class, within, pause, limit)
    return [(row["tenant_id"], row["subject"]) for row in rows]


async def entry(work: Work, subject: str) -> Any:
    """The row of one subject, or None; `settled_for`: how long ago it was settled."""
    return await work.raw.fetchrow(
        "select state, day, held_at, settled_at, units, held_tokens, held_usd, tokens, usd, estimated, "
        "clock_timestamp() - settled_at as settled_for from ledger where tenant_id = $1 and subject = $2",
        work.tenant_id,
        subject,
    )


async def unrecorded(work: Work, limit: int) -> list[tuple[str, date]]:
    """Days of any tenants that are over and were not put on record. `work` is of no tenant."""
    return [(row["tenant_id"], row["day"]) for row in await work.raw.fetch("select * from usage_unrecorded($1)", limit)]


async def record_once(work: Work, day: date) -> Used | None:
    """What was used on that day, for the first who asks so; None for everybody else."""
    row = await work.raw.fetchrow(
        "update usage_periods set recorded_at = clock_timestamp() where tenant_id = $1 and period = 'day' and starts_on = $2 "
        f"and recorded_at is null returning {PERIOD_COLUMNS}",
        work.tenant_id,
        day,
    )
    return used_of(row, "day") if row is not None else None


async def prune(work: Work, days: int) -> int:
    """Forget the periods of all tenants that ended more than `days` days ago; returns how many. `work` is of no tenant."""
    pruned: int = await work.raw.fetchval("select usage_prune($1)", days)
    return pruned


def used_of(row: Any, period: PeriodName, prefix: str = "") -> Used:
    """A row of usage_periods; `prefix` is that of its columns in a larger one."""
    return Used(
        period,
        row[f"{prefix}starts_on"],
        row[f"{prefix}plain_units"],
        row[f"{prefix}direct_units"],
        row[f"{prefix}units"] + row[f"{prefix}held_units"],
        row[f"{prefix}tokens"] + row[f"{prefix}held_tokens"],
        row[f"{prefix}usd"] + row[f"{prefix}held_usd"],
    )
