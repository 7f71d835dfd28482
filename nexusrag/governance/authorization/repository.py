"""All SQL of this domain: documents, people and requests on record, as decisions need them."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, select

from nexusrag.infra.database import Work
from nexusrag.knowledge.documents.facade import Document
from nexusrag.knowledge.visibility import Rule, in_living_corpus

SAMPLE = 5


async def document(work: Work, document_id: str) -> Document | None:
    """A document, whoever may see it."""
    statement = select(Document).where(Document.tenant_id == work.tenant_id, Document.id == document_id, in_living_corpus())
    found: Document | None = await work.session.scalar(statement)
    return found


async def corpus(work: Work, corpus_id: str) -> Any:
    return await work.raw.fetchrow(
        "select id, name, visibility, created_by as owner, created_at from corpora where tenant_id = $1 and id = $2 and deleted_at is null",
        work.tenant_id,
        corpus_id,
    )


async def people(work: Work, most: int) -> list[Any]:
    """Active people, those who came last first."""
    rows: list[Any] = await work.raw.fetch(
        "select id, email from users where tenant_id = $1 and status = 'active' and deleted_at is null "
        "order by last_login_at desc nulls last, created_at desc limit $2",
        work.tenant_id,
        most,
    )
    return rows


async def newest_documents(work: Work, most: int) -> tuple[int, datetime | None]:
    """How many of the newest documents there are, up to `most`, and when the first of them was made."""
    row: Any = await work.raw.fetchrow(
        "select count(*), min(created_at) from (select created_at from documents where tenant_id = $1 order by created_at desc limit $2) d",
        work.tenant_id,
        most,
    )
    return row[0], row[1]


async def difference(work: Work, before: Rule, after: Rule, since: datetime) -> tuple[int, list[str], int, list[str]]:
    """Documents that the second rule has and the first has not, and the other way round: numbers and first ids."""
    marked = (
        select(Document.id.label("id"), before.condition.label("before"), after.condition.label("after"))
        .where(Document.tenant_id == work.tenant_id, Document.created_at >= since)
        .subquery()
    )
    gained, lost = marked.c.after & ~marked.c.before, marked.c.before & ~marked.c.after
    statement = select(
        func.count().filter(gained),
        func.array_agg(marked.c.id).filter(gained),
        func.count().filter(lost),
        func.array_agg(marked.c.id).filter(lost),
    ).params({**before.values, **after.values})
    gains, gained_ids, losses, lost_ids = (await work.connection.execute(statement)).one()
    return gains, sorted(gained_ids or ())[:SAMPLE], losses, sorted(lost_ids or ())[:SAMPLE]


async def requests(work: Work, events: list[str], most: int) -> list[Any]:
    """The last requests of these event types by somebody who is known, and those that were refused by policy or permission."""
    rows: list[Any] = await work.raw.fetch(
        "select occurred_at, event_type, outcome, resource_type, resource_id, request_id, ip_address, metadata from audit_events "
        "where tenant_id = $1 and metadata ? 'subject_id' and event_type = any($2) order by occurred_at desc, id desc limit $3",
        work.tenant_id,
        events,
        most,
    )
    return rows


async def exists(work: Work, table: Literal["api_keys", "users"], one: str) -> bool:
    return await work.raw.fetchval(f"select 1 from {table} where tenant_id = $1 and id = $2", work.tenant_id, one) is not None
