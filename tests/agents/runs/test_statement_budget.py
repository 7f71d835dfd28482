"""What a request may ask of PostgreSQL and Redis, by class of route. These tests fail when that grows."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from asyncpg.connection import LoggedQuery
from sqlalchemy import event

from nexusrag.agents.runs.journal import FLUSH_AT_BYTES
from nexusrag.agents.runs.registry import RunRegistry
from nexusrag.billing.admission import domain as admission
from nexusrag.billing.admission.upkeep import Upkeep
from nexusrag.billing.costs.terms import SpendFigures
from nexusrag.infra.database import Database
from nexusrag.kernel.ids import new_id
from nexusrag.operations.sla.keeper import Keeper
from tests.agents.scripted import Installation, installation, run_id_of
from tests.support.api import Event, Person
from tests.support.installation import Servers, http
from tests.support.processes import Proxy, redis_proxy, until

COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n")
GREETINGS = ("AUTH", "CLIENT")  # of a new connection
SCRIPT = "EVALSHA"  # of admission: once in, and once out


@dataclass
class Tally:
    """What was asked between two moments."""

    statements: list[str] = field(default_factory=list)
    commits: int = 0
    commands: list[str] = field(default_factory=list)
    scripts: int = 0


class Counter:
    """Hears every statement on the pool of one process, and every command to Redis."""

    def __init__(self, held: Installation, redis: Proxy) -> None:
        self.held = held
        self.tally = Tally()
        redis.cut_after = self._command
        database = held.api.resources.get(Database)
        event.listen(database.engine.sync_engine, "connect", lambda connection, _: self._listen(connection.driver_connection))
        event.listen(database.engine.sync_engine, "before_cursor_execute", self._prepared)
        for pooled in database.pool.idle:
            self._listen(pooled.raw)

    def _listen(self, driver: Any) -> None:
        driver.add_query_logger(self._statement)

    def _prepared(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        self.tally.statements.append(statement)  # the driver does not log what SQLAlchemy has prepared

    def _statement(self, record: LoggedQuery) -> None:
        # The opening of a transaction is one script, which counts for its last part: ROLLBACK (of a read before); RESET ALL; BEGIN;
        # SET LOCAL ….
        parts = record.query.split("; ")
        if parts[-1] == "COMMIT":
            self.tally.commits += 1
        elif parts[-1] not in ("BEGIN", "BEGIN READ ONLY", "ROLLBACK"):
            self.tally.statements.append(parts[-1])

    def _command(self, piece: bytes) -> bool:
        names = [name.decode().upper() for name in COMMAND.findall(piece)]
        self.tally.commands += [name for name in names if name not in (*GREETINGS, SCRIPT)]
        self.tally.scripts += names.count(SCRIPT)
        return False

    @contextmanager
    def counting(self) -> Iterator[Tally]:
        self.tally = Tally()
        yield self.tally
        assert self.tally.scripts <= 3  # the way out of the request before may fall into this one


class Still(Upkeep):
    """What a process does beside its requests, left undone: it would be counted."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield


@pytest.fixture(scope="module")
async def counter(servers: Servers) -> AsyncIterator[Counter]:
    # One connection: the driver looks at types once on each. And no renewals: they are the process's, whatever runs.
    env = {"INGEST_EXECUTION_MODE": "queue", "API_DB_POOL_SIZE": "1", "API_DB_MAX_OVERFLOW": "0"}
    async with redis_proxy(servers) as (proxy, url), AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(admission, "Upkeep", Still)
            held = await stack.enter_async_context(installation(servers, REDIS_URL=url, **env))
        for loop in held.api.resources.get(RunRegistry)._loops:
            loop.cancel()
        await held.api.resources.get(SpendFigures).close()  # asks on its own time, too
        await held.api.resources.get(Keeper).close()
        yield Counter(held, proxy)


@pytest.fixture
async def person(counter: Counter) -> Person:
    """Somebody whose key is known to the process already."""
    somebody = await counter.held.api.person()
    await somebody.corpus()
    return somebody


async def with_documents(counter: Counter, person: Person, count: int) -> str:
    corpus = await person.corpus()
    admin = await counter.held.api.servers.admin()
    try:
        (key,) = await admin.fetch("select key from corpora where tenant_id = $1 and id = $2", person.tenant, corpus)
        await admin.execute(
            "insert into documents (tenant_id, id, corpus_id, corpus_key, filename, content_type, source, ingest_source, status, "
            "size_bytes, sha256, blob_id) select $1, $2 || n, $2, $3, 'x', 'text/plain', 'raw_text', 'raw_text', 'succeeded', 1, 'x', 'x' "
            "from generate_series(1, $4) n",
            person.tenant, corpus, key["key"], count,
        )  # fmt: skip
        await admin.execute(
            "insert into document_permissions (tenant_id, id, document_id, principal_type, principal_id, permission) "
            "select $1, 'perm_' || id, id, 'user', $2, 'owner' from documents where tenant_id = $1 and corpus_id = $3",
            person.tenant, person.user_id, corpus,
        )  # fmt: skip
    finally:
        await admin.close()
    return corpus


async def test_a_run(counter: Counter, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight statements of ten, two commits of three and no command: a run that is over soon is written with its end alone."""
    for pause in ("FLUSH_AFTER_S", "GATHER_S"):  # it is, however slow the machine may be
        monkeypatch.setattr(f"nexusrag.agents.runs.journal.{pause}", 60)
    corpus = await ingested(counter, person)
    question = counter.held.model.play(*[f"word{number} " for number in range(19)], "[1].")
    session = new_id("s")
    await whole_run(counter, person, corpus, question, new_id("s"))  # the first one makes the driver look at types
    for said_before in (0, 1):
        with counter.counting() as tally:
            events = await whole_run(counter, person, corpus, question, session)
        assert sum(event.type == "token.delta" for event in events) == 20
        assert len(counter.held.model.prompts[-1].messages) == 2 + 2 * said_before
        assert sum(len(event.raw) for event in events[:-2]) > FLUSH_AT_BYTES  # before its end
        assert len(tally.statements) == 8, tally.statements
        assert tally.commits == 1  # the end of the run is the other: a call that commits by itself
        assert tally.commands == []


async def whole_run(counter: Counter, person: Person, corpus: str, question: str, session: str) -> list[Event]:
    """A run to its very end: the last wake-up comes after the last event."""
    events = await person.run(corpus, question, session_id=session)
    registry, run_id = counter.held.api.resources.get(RunRegistry), run_id_of(events)

    async def over() -> bool:
        return registry.get(run_id) is None

    await until(over)
    return events


async def ingested(counter: Counter, person: Person) -> str:
    """A corpus with a document. This process has no worker, so another one takes the text."""
    corpus = await person.corpus()
    async with installation(counter.held.api.servers) as inline, http(inline.api.base_url, person.key) as client:
        body = {"corpus_id": corpus, "text": "The lighthouse keeper is called Ada Moreau."}
        assert (await client.post("/v1/documents/text", json=body)).status_code == 202
    return corpus


async def test_a_list_asks_the_same_however_many_documents_there_are(counter: Counter, person: Person) -> None:
    asked = []
    for count in (1, 20, 80):
        corpus = await with_documents(counter, person, count)
        with counter.counting() as tally:
            answer = await person.get(f"/v1/documents?corpus_id={corpus}&limit=100")
        assert len(answer.json()["data"]) == count
        asked.append((len(tally.statements), tally.commits, len(tally.commands)))
    assert asked == [asked[0]] * 3
    assert asked[0] == (2, 0, 0)


@pytest.mark.parametrize(
    ("path", "statements", "commits"),
    [
        ("/v1/corpora", 2, 0),
        ("/v1/corpora/{corpus}", 2, 0),
        ("/v1/documents/{document}", 2, 0),
        ("/v1/runs/{run}", 2, 0),
        ("/v1/ops/ingestion", 6, 1),  # which is on record
    ],
)
async def test_plain_reads(counter: Counter, person: Person, path: str, statements: int, commits: int) -> None:
    corpus = await with_documents(counter, person, 1)
    run = ""
    if "{run}" in path:
        run = run_id_of(await person.run(corpus, "Who is it?"))
    with counter.counting() as tally:
        answer = await person.get(path.format(corpus=corpus, document=f"{corpus}1", run=run))
    assert answer.status_code == 200, answer.text
    assert len(tally.statements) <= statements, tally.statements
    assert tally.commits == commits
    assert tally.commands == []


async def test_a_search(counter: Counter, person: Person) -> None:
    corpus = await ingested(counter, person)
    await person.search(corpus, "keeper")
    with counter.counting() as tally:
        assert await person.search(corpus, "Who is the lighthouse keeper?")
    assert len(tally.statements) <= 4, tally.statements
    assert tally.commits <= 2
    assert tally.commands == []


async def test_an_accepted_text(counter: Counter, person: Person) -> None:
    corpus = await person.corpus()
    await person.text(corpus, "one", wait=False)
    with counter.counting() as tally:
        await person.text(corpus, "two", wait=False)
    # Two transactions, so that none is open while the file is stored.
    assert len(tally.statements) <= 10, tally.statements
    assert tally.commits == 2
    assert len(tally.commands) <= 6, tally.commands  # one wake-up of ARQ


async def test_a_replay_is_one_look_for_a_finished_run(counter: Counter, person: Person) -> None:
    corpus = await ingested(counter, person)
    run_id = run_id_of(await person.run(corpus, "Who is the lighthouse keeper?"))
    with counter.counting() as tally:
        await person.get(f"/v1/runs/{run_id}/events")
    assert len(tally.statements) <= 8, tally.statements
    assert len(tally.commands) <= 1, tally.commands
