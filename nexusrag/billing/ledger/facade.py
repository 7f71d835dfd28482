"""What other domains may ask of the ledger. All act in the tenant of `work`, except `flush_plain`, `estimates`, `unrecorded` and
`prune` (of none).

    verdict = await reserve(work, Reservation(...), Caps(...))    before the work, in the transaction that accepts it. Or as part of a
                                                                  larger statement: `reserving`, `reserve_values`, VERDICT, `verdict_of`
    await settle(work, subject, lines, tokens=…, estimated=…)     after it; False when it was settled before. Within a larger one: SQL
                                                                  `ledger_settle(tenant, subject, tokens, estimated, lines, false)`
    await charge(work, subject, "mutation", lines)                at once, in the transaction of the effect; False for a second time
    figures(work)                                                 for headers, reports, and to load Redis after a loss
    await flush_plain(work, [Plain(tenant, day, value)])          Redis's counts of plain units into PostgreSQL, many tenants at once
    verdict = await count_directly(work, units, caps)             one plain request while Redis is away, guarded
    await give_back_directly(work, units)                         the same request was refused after all
    if await note_once(work, "soft_cap", "day"): …                for the first in the period; quotas do so
    of_period, days, counted, embedded, runs_by_day, by_hour      what is reported of longer spans
    await record_once(work, day)                                  what a day (of `unrecorded`) came to, for the first who asks
    await prune(work, days)                                       counters of periods that ended so long ago; how many

How Redis and PostgreSQL share the units: Redis counts per tenant and UTC day, and per month, all units (plain ones and those of runs), and
per day the plain ones alone. The total to load is `used.units`, the plain count to load is `used.plain_units` of the day.
`flush_plain` writes that plain count (a value, not a difference); the month follows by itself. `direct_units` were admitted by
PostgreSQL alone and are in no plain count: after Redis came back, drop its counters of the tenants concerned and have them loaded.
"""

from nexusrag.billing.ledger.entries import Caps, Figures, Line, Noted, PeriodName, Plain, Reservation, Used, Verdict
from nexusrag.billing.ledger.reports import by_hour, counted, days, embedded, of_period, runs_by_day
from nexusrag.billing.ledger.repository import (
    VERDICT,
    as_json,
    charge,
    count_directly,
    entry,
    estimates,
    figures,
    flush_plain,
    give_back_directly,
    note_once,
    prune,
    record_once,
    reserve,
    reserve_values,
    reserving,
    settle,
    unrecorded,
    verdict_of,
)

__all__ = [
    "VERDICT",
    "Caps",
    "Figures",
    "Line",
    "Noted",
    "PeriodName",
    "Plain",
    "Reservation",
    "Used",
    "Verdict",
    "as_json",
    "by_hour",
    "charge",
    "count_directly",
    "counted",
    "days",
    "embedded",
    "entry",
    "estimates",
    "figures",
    "flush_plain",
    "give_back_directly",
    "note_once",
    "of_period",
    "prune",
    "record_once",
    "reserve",
    "reserve_values",
    "reserving",
    "runs_by_day",
    "settle",
    "unrecorded",
    "verdict_of",
]
