"""What stands in the database for each tenant, as counts and sums that are the same for the same writes."""

from collections import Counter, defaultdict
from typing import Any

import asyncpg

from tests.chaos.provider import PER_TOKEN, InvoicingProvider

Census = dict[str, Counter[str]]
# Measurements, which depend on time; what has figures of its own below; and names of processes.
_ELSEWHERE = ("sla_", "jobs", "audit_events", "ledger", "usage_periods", "documents", "runs", "run_events", "messages")
OF_TESTS = "tenant_id like 't-%'"
_WRITTEN = "subject not like 'storage:%'"  # which is charged at the time it is looked at
_TABLES = """
select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by 1
"""
_FIGURES = {
    # A file that was stored and not named in the end is removed by its job in an hour.
    "job {}": "select tenant_id, kind || ' ' || state as what, count(*) as n from jobs where run_at < now() + interval '10 minutes' "
    "group by 1, 2",
    # Who came is recorded once by each process that sees them.
    "event {}": "select tenant_id, event_type as what, count(*) as n from audit_events "
    "where event_type not in ('auth.access.success', 'cost.event.recorded') group by 1, 2",
    "charged {}": f"select tenant_id, route_class || ' ' || state as what, count(*) as n from ledger where {_WRITTEN} group by 1, 2",
    "{} of the ledger": "select tenant_id, f.what, sum(f.n) as n from ledger l, "
    "lateral (values ('units', l.units::numeric), ('tokens', l.tokens), ('micro-micro-dollars', l.usd * 1e12)) f (what, n) "
    f"where {_WRITTEN} group by 1, 2",
    "lines of {}": f"select tenant_id, component as what, count(*) as n from ledger_lines where {_WRITTEN} group by 1, 2",
    "{} of lines": "select tenant_id, component || ' quantity' as what, sum(quantity * 1000000) as n from ledger_lines "
    f"where {_WRITTEN} group by 1, 2",
    "{} of documents": "select d.tenant_id, f.what, sum(f.n) as n from documents d, "
    "lateral (values (d.status, 1), ('chunks', coalesce(d.num_chunks, 0)), ('bytes', d.size_bytes)) f (what, n) group by 1, 2",
    "runs {}": "select tenant_id, 'accepted' as what, count(*) as n from runs group by 1, 2",
}


async def census(admin: "asyncpg.Connection[Any]") -> Census:
    """By tenant: how many rows of each table, jobs and events by kind, and what was charged."""
    found: Census = defaultdict(Counter)
    for row in await admin.fetch(_TABLES):
        table = row["relname"]
        if not table.startswith(_ELSEWHERE):
            for one in await admin.fetch(f"select tenant_id, count(*) as n from {table} where tenant_id is not null group by 1"):
                found[one["tenant_id"]][table] += one["n"]
    for name, statement in _FIGURES.items():
        for one in await admin.fetch(statement):
            found[one["tenant_id"]][name.format(one["what"])] += one["n"]
    return found


async def plain_units(admin: "asyncpg.Connection[Any]") -> Counter[str]:
    """What plain requests count against each tenant's quota, as Redis said it last."""
    rows = await admin.fetch("select tenant_id, plain_units from usage_periods where period = 'month'")
    return Counter({row["tenant_id"]: row["plain_units"] for row in rows})


def differences(expected: Counter[str], seen: Counter[str], *, without: tuple[str, ...] = ()) -> list[str]:
    """What is there too often, or too seldom."""
    names = [name for name in sorted({*expected, *seen}) if not name.startswith(without)] if without else sorted({*expected, *seen})
    return [f"{name}: {seen[name]} for {expected[name]}" for name in names if seen[name] != expected[name]]


async def unbalanced(admin: "asyncpg.Connection[Any]") -> list[str]:
    """Tenants whose counters are not the sum of their ledger, or whose ledger is not the sum of its lines."""
    rows = await admin.fetch(
        "select p.tenant_id, p.units, p.held_units, p.tokens, p.held_tokens, p.usd, p.held_usd, l.units as l_units, l.tokens as l_tokens, "
        "l.usd as l_usd, (select coalesce(sum(usd), 0) from ledger_lines i where i.tenant_id = p.tenant_id) as i_usd "
        "from usage_periods p join lateral (select coalesce(sum(units), 0) as units, coalesce(sum(tokens), 0) as tokens, "
        "coalesce(sum(usd), 0) as usd from ledger l where l.tenant_id = p.tenant_id and l.state <> 'held') l on true "
        "where p.period = 'month' and ((p.units, p.tokens, p.usd) is distinct from (l.units, l.tokens, l.usd) "
        "or (p.held_units, p.held_tokens, p.held_usd) is distinct from (0, 0, 0) "
        "or p.usd <> (select coalesce(sum(usd), 0) from ledger_lines i where i.tenant_id = p.tenant_id))"
    )
    return [str(dict(row)) for row in rows]


async def under_way(admin: "asyncpg.Connection[Any]") -> list[str]:
    """Jobs that are due, runs and reservations that have not come to their end."""
    rows = await admin.fetch(
        "select kind || ' ' || state || ' ' || id as what from jobs where state in ('queued', 'running') "
        f"and run_at < now() + interval '10 minutes' and {OF_TESTS} union all "
        "select 'running ' || id from runs where state = 'running' union all select 'held ' || subject from ledger where state = 'held'"
    )
    return [row["what"] for row in rows]


async def uninvoiced(admin: "asyncpg.Connection[Any]", provider: InvoicingProvider) -> list[str]:
    """Runs whose estimate the provider could make exact."""
    rows = await admin.fetch("select subject from ledger where estimated and route_class = 'run'")
    return [row["subject"] for row in rows if provider.tokens(row["subject"])]


async def invoiced(admin: "asyncpg.Connection[Any]", provider: InvoicingProvider) -> list[str]:
    """Where the ledger and what the provider wrote down differ, run by run."""
    rows = await admin.fetch(
        "select r.id, l.state, l.tokens, l.estimated, l.units, (select coalesce(sum(i.usd), 0) from ledger_lines i "
        "where i.tenant_id = l.tenant_id and i.subject = l.subject and i.component = 'llm') as usd "
        "from runs r left join ledger l on l.tenant_id = r.tenant_id and l.subject = r.id"
    )
    known = {row["id"] for row in rows}
    faults = [f"the model was asked for a run that does not exist: {run}" for run in provider.runs() - known]
    for row in rows:
        owed = provider.tokens(row["id"])
        if (row["state"], row["tokens"], row["units"], row["usd"]) != ("settled", owed, 3, owed * PER_TOKEN):
            faults.append(f"run {dict(row)}: the provider's invoice says {owed} tokens")
    return faults + [f"asked twice: {call}" for call, bills in provider.bills.items() if not all(bill.cut for bill in bills[:-1])]
