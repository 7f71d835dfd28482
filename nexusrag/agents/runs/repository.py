"""All SQL of runs, sessions and the journal."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

import orjson

from nexusrag.agents.runs.metering import Spent
from nexusrag.billing.ledger.facade import VERDICT, Caps, Reservation, Verdict, as_json, reserve_values, reserving, verdict_of
from nexusrag.infra.database import Database, Work
from nexusrag.infra.jobs import LEASE_S
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.web.call import CallContext

_LEASE = timedelta(seconds=LEASE_S)
_RUN = (
    "select id, tenant_id, session_id, corpus_id, user_id, request_id, state, question, receipt, error_code, day, epoch, document_ids, "
    "cancel_requested, started_at, finished_at, clock_timestamp() as now from runs where tenant_id = $1 and id = $2"
)
_ENTER = (
    "with made as (insert into sessions (id, tenant_id, user_id) values ($1, $2, $3) on conflict (id) do nothing returning user_id), "
    "used as (update sessions set last_used_at = now() where id = $1 and tenant_id = $2 returning user_id), "
    "said as (select id, role, content from messages where tenant_id = $2 and session_id = $1 order by id desc limit $4) "
    "select user_id, null::jsonb as history from made union all "
    "select user_id, (select jsonb_agg(jsonb_build_array(role, content) order by id) from said) from used"
)
_INSERT = (
    f"with verdict as materialized (select {VERDICT} from {reserving(11)}), "
    "made as (insert into runs (id, tenant_id, session_id, corpus_id, user_id, api_key_id, request_id, question, process, leased_until) "
    "select $1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp() + $10::interval from verdict where state <> 'refused') "
    "select * from verdict"
)


async def enter_session(work: Work, session_id: str, user_id: str, limit: int) -> list[tuple[str, str]]:
    """The newest `limit` messages of the caller's session as (role, content), oldest first; the session is made when it is new.

    Raises SESSION_TENANT_MISMATCH for another tenant's, NOT_FOUND for another person's.
    """
    row = await work.raw.fetchrow(_ENTER, session_id, work.tenant_id, user_id, limit)
    if row is None:
        # Another request may have made the session while this one waited for it: a new statement sees it.
        row = await work.raw.fetchrow(_ENTER, session_id, work.tenant_id, user_id, limit)
    if row is None:
        raise ApiError(ErrorCode.SESSION_TENANT_MISMATCH, "This session id is in use elsewhere; choose another.")
    if row["user_id"] != user_id:
        raise not_found("session")
    return [(role, content) for role, content in row["history"] or []]


async def insert(
    work: Work,
    reservation: Reservation,
    caps: Caps,
    *,
    run_id: str,
    session_id: str,
    corpus_id: str,
    user_id: str,
    key_id: str,
    request_id: str,
    question: str,
    process: str,
) -> Verdict:
    """The run, with what it may take at most reserved; or a verdict that refuses, and no run."""
    row = await work.raw.fetchrow(
        _INSERT, run_id, work.tenant_id, session_id, corpus_id, user_id, key_id, request_id, question, process, _LEASE,
        *reserve_values(work, reservation, caps),
    )  # fmt: skip
    return verdict_of(row)


class Part(NamedTuple):
    """Events of one run, and the documents that it has read unless they are written down already."""

    tenant_id: str
    run_id: str
    epoch: int
    events: list[tuple[int, str]]
    document_ids: list[str] | None


async def append(work: Work, parts: Sequence[Part]) -> list[bool]:
    """Write events of runs of any tenants, and renew their leases; for each whether it was this process's still. False: nothing written.

    Each statement enters its tenant by itself: `work` is of none. They go in one round trip. A write whose commit was not heard of may
    come again.
    """
    rows = await work.raw.fetchmany(
        "select journal_append($1, $2, $3, $4, $5, $6, $7) as mine",
        [
            (tenant_id, run_id, epoch, [seq for seq, _ in events], [payload for _, payload in events], document_ids, _LEASE)
            for tenant_id, run_id, epoch, events, document_ids in parts
        ],
    )
    return [row["mine"] for row in rows]


async def finish(
    database: Database,
    tenant_id: str,
    run_id: str,
    epoch: int,
    *,
    state: str,
    receipt: dict[str, Any],
    error_code: str | None,
    events: Sequence[tuple[int, str]],
    document_ids: list[str] | None,
    messages: Sequence[tuple[str, str]],
    spent: Spent,
) -> bool:
    """The end of a run: state, receipt, last events, what was said and used, in a transaction of its own; False when it is another's."""
    mine: bool = await database.call(
        "run_finish", tenant_id, run_id, epoch, state, orjson.dumps(receipt, default=str).decode(), error_code,
        [seq for seq, _ in events], [payload for _, payload in events], document_ids,
        [role for role, _ in messages], [content for _, content in messages],
        spent.tokens, spent.estimated, as_json(spent.lines),
    )  # fmt: skip
    return mine


async def find(work: Work, run_id: str) -> Any:
    """The run's row in the tenant, or None."""
    return await work.raw.fetchrow(_RUN, work.tenant_id, run_id)


async def load(call: CallContext, run_id: str) -> Any:
    """The caller's own run, or not found."""
    call.resource_id = run_id
    row = await find(call.db, run_id)
    if row is None or row["user_id"] != call.principal.subject_id:
        raise not_found("run")
    return row


async def events_after(work: Work, run_id: str, day: date, after: int) -> list[tuple[int, str]]:
    rows = await work.raw.fetch(
        "select seq, payload from run_events where tenant_id = $1 and run_id = $2 and day = $3 and seq > $4 order by seq",
        work.tenant_id,
        run_id,
        day,
        after,
    )
    return [(row["seq"], row["payload"]) for row in rows]


async def last_seq(work: Work, run_id: str, day: date) -> int:
    seq: int = await work.raw.fetchval(
        "select coalesce(max(seq), 0) from run_events where tenant_id = $1 and run_id = $2 and day = $3", work.tenant_id, run_id, day
    )
    return seq


async def renew(work: Work, run_ids: list[str], process: str) -> dict[str, bool]:
    """Renew the leases of runs of any tenants; those that are still this process's, and whether their end was asked for."""
    rows = await work.raw.fetch("select * from runs_renew($1, $2, $3)", run_ids, process, _LEASE)
    return {row["id"]: row["cancel_requested"] for row in rows}


async def take_abandoned(work: Work, limit: int) -> list[Any]:
    """Take over runs of any tenants whose process went away: their tenant, id and new epoch."""
    rows: list[Any] = await work.raw.fetch("select * from runs_take_abandoned('reaper', $1, $2)", limit, _LEASE)
    return rows


async def request_cancel(work: Work, run_id: str) -> None:
    await work.raw.execute(
        "update runs set cancel_requested = true where tenant_id = $1 and id = $2 and state = 'running'", work.tenant_id, run_id
    )
