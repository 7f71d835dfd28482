"""Chargeback reports: what a tenant's people spent in a period, in lines that add up to the ledger exactly. Kept as they were made."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from nexusrag.billing.costs import repository
from nexusrag.billing.costs.schemas import ChargebackReport, ChargebackReports
from nexusrag.kernel import clock, money
from nexusrag.kernel.actions import Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.web.call import CallContext

_LONGEST = timedelta(days=3660)
_NOTHING = Decimal(0)
# A plus sign that was sent without being quoted arrives as a space.
_UNQUOTED_OFFSET = re.compile(r" (\d\d:?\d\d)$")
_PARTS = ("component", "provider", "route_class", "user_id", "key_id")


async def generate(call: CallContext, period_start: str, period_end: str) -> ChargebackReport:
    """Make and keep the report from `period_start` up to, not including, `period_end`.

    Raises COST_CHARGEBACK_RANGE_INVALID for times that are none, and for a period that is empty, reversed or longer than ten years.
    """
    start, end = _moment(period_start, "period_start"), _moment(period_end, "period_end")
    if not timedelta(0) < end - start <= _LONGEST:
        raise _out_of_range("period_end must be later than period_start, by ten years at most.", "period_end")
    rows = await repository.billed(call.db, start, end)
    complete = end <= clock.now() and not await repository.is_open(call.db, start, end)
    total = sum((row["usd"] for row in rows), _NOTHING)
    breakdown = broken_down(rows, total, complete)
    report_id = new_id("cbr")
    row = await repository.insert_report(call.db, report_id, start, end, total, breakdown, call.principal.subject_id)
    call.about(Resource.CHARGEBACK_REPORT, report_id)
    call.record(period_start=clock.iso(start), period_end=clock.iso(end), total_usd=money.text(total), lines=len(rows))
    return told(row)


def broken_down(rows: Sequence[Any], total: Decimal, complete: bool) -> dict[str, Any]:
    """The parts of a report. Amounts as numbers are in micro-dollars and add up to the total; `usd_exact` is what the ledger has."""
    shares = money.apportioned({place: row["usd"] for place, row in enumerate(rows)}, total)
    lines = [_line(row, shares[place]) for place, row in enumerate(rows)]
    return {
        **{f"by_{part.removesuffix('_id')}": _by(part, lines, rows, total) for part in _PARTS},
        "total_usd_exact": f"{total:f}",
        "estimated_usd": float(money.shown(sum((row["estimated_usd"] or _NOTHING for row in rows), _NOTHING))),
        "unpriced": any(row["unpriced"] for row in rows),
        "complete": complete,
        "lines": lines,
    }


async def listed(call: CallContext, limit: int) -> ChargebackReports:
    """The newest reports, without their lines."""
    return ChargebackReports(items=[told(row) for row in await repository.reports(call.db, limit)])


async def latest(call: CallContext) -> ChargebackReport:
    """The newest report. Raises COST_CHARGEBACK_REPORT_NOT_FOUND where none was made."""
    row = await repository.report(call.db, None)
    if row is None:
        raise _not_found()
    return told(row)


async def load(call: CallContext, report_id: str) -> Any:
    """A report of the tenant's own, or COST_CHARGEBACK_REPORT_NOT_FOUND."""
    call.resource_id = report_id
    row = await repository.report(call.db, report_id)
    if row is None:
        raise _not_found()
    return row


def told(row: Any) -> ChargebackReport:
    return ChargebackReport(**{name: row[name] for name in ChargebackReport.model_fields})


def _line(row: Any, shown: Decimal) -> dict[str, Any]:
    return {
        "component": row["component"],
        "provider": row["provider"],
        "model": row["model"],
        "rate_type": row["rate_type"],
        "route_class": row["route_class"],
        "user_id": row["user_id"],
        "key_id": row["credential_id"],
        "quantity": f"{row['quantity'].normalize():f}",
        "usd": float(shown),
        "usd_exact": f"{row['usd']:f}",
        "estimated": bool(row["estimated_usd"] is not None),
        "priced": not row["unpriced"],
    }


def _by(part: str, lines: Sequence[dict[str, Any]], rows: Sequence[Any], total: Decimal) -> dict[str, float]:
    sums: dict[str, Decimal] = {}
    for line, row in zip(lines, rows, strict=True):
        name = line[part] or ""  # what nobody in particular asked for, such as keeping documents
        sums[name] = sums.get(name, _NOTHING) + row["usd"]
    return {name: float(usd) for name, usd in money.apportioned(sums, total).items()}


def _moment(text: str, field: str) -> datetime:
    """An ISO 8601 date or time; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(_UNQUOTED_OFFSET.sub(r"+\1", text.strip()))
    except ValueError as error:
        raise _out_of_range(f"{field} must be a time such as 2026-02-01T00:00:00Z.", field) from error
    return clock.within_calendar(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _out_of_range(message: str, field: str) -> ApiError:
    return ApiError(ErrorCode.COST_CHARGEBACK_RANGE_INVALID, message, {"field": field})


def _not_found() -> ApiError:
    return ApiError(ErrorCode.COST_CHARGEBACK_REPORT_NOT_FOUND, "No such report.")
