"""Worker processes that die or freeze in the middle of a document. Another takes over, and the result is that of a clean run."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest

from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person
from tests.support.installation import Servers, serving
from tests.support.processes import Process, is_alive, process, until

pytestmark = [pytest.mark.slow]
TEXT = "\n\n".join(f"Paragraph {number} tells of whale oil, keeper {number % 7} and the Tuesday ferry." for number in range(2500))
# A version's index as a search reads it, free of the ids that differ from run to run.
INDEX = """
with v as (
    select v.* from documents d join document_versions v on v.id = d.live_version_id where d.tenant_id = $1 and d.id = $2
), c as (
    select c.* from chunks c join v on c.version_id = v.id
), posted as (
    select p.term, p.block, jsonb_agg(jsonb_build_array(c.ord, e & 16777215) order by c.ord) as entries
    from postings p join v on p.version_id = v.id cross join lateral unnest(p.entries) e join c on c.id = e >> 24 group by p.term, p.block
)
select jsonb_build_object(
    'chunks', (select jsonb_agg(jsonb_build_array(ord, text, start_char, end_char, encode(hash, 'hex')) order by ord) from c),
    'vectors', (select jsonb_agg(jsonb_build_array(c.ord, e.v::text) order by c.ord) from embeddings e join c on c.id = e.chunk_id),
    'postings', (select jsonb_agg(jsonb_build_array(term, block, entries) order by term, block) from posted),
    'counts', (select jsonb_build_array(num_chunks, num_terms, chars, number, state) from v)
)::text
"""
ORPHANS = """
with live as (select live_version_id as id from documents where tenant_id = $1)
select (select count(*) from document_versions where tenant_id = $1) as versions,
       (select count(*) from chunks where tenant_id = $1 and version_id not in (select id from live))
       + (select count(*) from postings where tenant_id = $1 and version_id not in (select id from live))
       + (select count(*) from embeddings where tenant_id = $1 and version_id not in (select id from live)) as orphans
"""
RUNNING = "select 1 from jobs where queue = $1 and state = 'running' and args->>'document_id' = $2"
BLOCKED = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%{}%'"
# For whoever reads a failure: the queue's jobs, and what the database is busy with.
STATE = """
select 'job', j::text from jobs j where queue = $1 union all
select 'session', concat_ws(' | ', pid, state, wait_event_type, wait_event, pg_blocking_pids(pid)::text, clock_timestamp() - xact_start,
                            left(query, 200))
from pg_stat_activity where xact_start is not null and pid <> pg_backend_pid()
"""


class Crash(NamedTuple):
    """An API without a worker of its own, and a queue that nobody else looks at."""

    servers: Servers
    admin: "asyncpg.Connection[Any]"
    api: Api
    person: Person
    corpus: str
    queue: str
    working: Path  # where workers put what they need for a while

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Process]:
        before = {row["id"] for row in await self.admin.fetch("select id from workers where queue = $1", self.queue)}
        env = {"INGEST_QUEUE_NAME": self.queue, "INGEST_MAX_CONCURRENCY": "4", "TMPDIR": str(self.working)}
        with process(self.servers, "worker", **env) as started:

            async def ready() -> bool:
                assert started.code is None, started.output()
                return bool({row["id"] for row in await self.admin.fetch("select id from workers where queue = $1", self.queue)} - before)

            await until(ready, 30, 0.05)
            try:
                yield started
            except AssertionError:
                for row in await self.admin.fetch(STATE, self.queue):
                    print(*row)
                raise

    async def begun(self, document: str) -> None:
        async def running() -> bool:
            seen = (await self.person.get(f"/v1/documents/{document}")).json()["data"]["status"]
            return bool(seen == "processing" and await self.admin.fetch(RUNNING, self.queue, document))

        await until(running)

    async def proof_of_life(self) -> None:
        """The one worker does something for somebody else."""
        stranger = await self.api.person()
        await stranger.text(await stranger.corpus(), "Warm up.")

    async def job(self, document: str) -> Any:
        return await self.admin.fetchrow("select * from jobs where queue = $1 and args->>'document_id' = $2", self.queue, document)

    async def like_a_clean_run(self, document: str) -> None:
        """The document's index equals that of the same text ingested without a fault, and nothing else is left."""
        clean = await self.person.text(self.corpus, TEXT)
        shapes = [await self.admin.fetchval(INDEX, self.person.tenant, name) for name in (document, clean)]
        assert shapes[0] is not None
        assert shapes[0] == shapes[1]
        (row,) = await self.admin.fetch(ORPHANS, self.person.tenant)
        assert (row["versions"], row["orphans"]) == (2, 0)


@pytest.fixture
async def crash(servers: Servers, tmp_path: Path) -> AsyncIterator[Crash]:
    queue = new_id("queue")
    async with serving(servers.with_env(INGEST_QUEUE_NAME=queue)) as (app, base_url):
        api = Api(servers, app, base_url)
        admin = await servers.admin()
        try:
            person = await api.person()
            yield Crash(servers, admin, api, person, await person.corpus(), queue, tmp_path)
        finally:
            await admin.close()
            await api.close()


@asynccontextmanager
async def stuck(crash: Crash, where: str) -> AsyncIterator[tuple[Process, str]]:
    """A worker that is in the middle of a document and cannot get on until this ends."""
    async with crash.worker() as worker:
        await crash.proof_of_life()
        if where == "parsing":
            (parser,) = worker.children()
            parser.suspend()
            document = await crash.person.text(crash.corpus, TEXT, wait=False)
            await crash.begun(document)
            yield worker, document
            return
        async with crash.admin.transaction():
            await crash.admin.execute("lock table postings in exclusive mode")
            document = await crash.person.text(crash.corpus, TEXT, wait=False)
            other = await crash.servers.admin()
            try:
                await until(lambda: other.fetch(BLOCKED.format("insert into chunks")))
            finally:
                await other.close()
            yield worker, document


@pytest.mark.parametrize("where", ["parsing", "inserting"])
async def test_a_killed_worker_is_replaced_within_15_seconds_and_leaves_no_trace(crash: Crash, where: str) -> None:
    async with stuck(crash, where) as (worker, document):
        parsers = worker.children()
        worker.kill()
        killed_at = await crash.admin.fetchval("select clock_timestamp()")
        if where == "parsing":  # once is enough to wait for the lease
            await crash.admin.execute("update jobs set leased_until = now() where queue = $1 and state = 'running'", crash.queue)
    async with crash.worker():
        assert (await crash.person.settled(document, 30))["status"] == "succeeded"
        job = await crash.job(document)
        assert (job["state"], job["attempt"], job["epoch"]) == ("succeeded", 2, 2)
        assert (job["started_at"] - killed_at).total_seconds() <= 15
        await crash.like_a_clean_run(document)
    assert not any(is_alive(parser.pid) for parser in parsers)
    assert list(crash.working.iterdir()) == []  # of the plaintext, too


async def test_a_worker_that_wakes_up_after_its_lease_has_no_second_effect(crash: Crash) -> None:
    async with stuck(crash, "parsing") as (frozen, document):
        parsers = frozen.children()
        frozen.freeze()
        await crash.admin.execute("update jobs set leased_until = now() where queue = $1 and state = 'running'", crash.queue)
        async with crash.worker():
            assert (await crash.person.settled(document))["status"] == "succeeded"
            before = dict(await crash.job(document))
        for parser in parsers:
            parser.resume()
        frozen.thaw()
        await crash.proof_of_life()
        assert dict(await crash.job(document)) == before
        assert (before["state"], before["epoch"]) == ("succeeded", 2)
        assert frozen.code is None
        await crash.like_a_clean_run(document)


async def test_a_worker_that_freezes_inside_a_transaction_is_replaced_within_15_seconds(crash: Crash) -> None:
    document = await crash.person.text(crash.corpus, TEXT, wait=False)
    async with AsyncExitStack() as workers:
        async with crash.admin.transaction():
            await crash.admin.execute("select 1 from documents where id = $1 for update", document)
            frozen = await workers.enter_async_context(crash.worker())
            other = await crash.servers.admin()
            try:
                await until(lambda: other.fetch(BLOCKED.format("update documents")))
            finally:
                await other.close()
            frozen.freeze()
            frozen_at = await crash.admin.fetchval("select clock_timestamp()")
        # Its session has the document's row now, and is idle.
        await workers.enter_async_context(crash.worker())
        assert (await crash.person.settled(document, 60))["status"] == "succeeded"
        job = await crash.job(document)
        assert (job["state"], job["attempt"], job["epoch"]) == ("succeeded", 2, 2)
        assert (job["started_at"] - frozen_at).total_seconds() <= 15
        assert (job["finished_at"] - frozen_at).total_seconds() <= 30  # and did not wait for the row after that
        await crash.like_a_clean_run(document)


async def test_a_worker_that_is_told_to_stop_hands_its_document_back(crash: Crash) -> None:
    async with stuck(crash, "parsing") as (worker, document):
        worker.terminate()
        assert await worker.ended(20) == 0, worker.output()
        job = await crash.job(document)
        assert (job["state"], job["attempt"]) == ("queued", 0)
    async with crash.worker():
        assert (await crash.person.settled(document))["status"] == "succeeded"


async def test_a_parser_that_dies_of_a_document_takes_neither_worker_nor_neighbours_along(crash: Crash) -> None:
    async with crash.worker() as worker:
        await crash.proof_of_life()
        (parser,) = worker.children()
        parser.suspend()
        victim = await crash.person.text(crash.corpus, TEXT, wait=False)
        await crash.begun(victim)
        neighbours = [await crash.person.text(crash.corpus, f"Neighbour {number}.", wait=False) for number in range(5)]
        parser.kill()
        told = await crash.person.settled(victim)
        assert told["status"] == "failed"
        assert told["failure_reason"]
        for neighbour in neighbours:
            assert (await crash.person.settled(neighbour))["status"] == "succeeded"
        assert (await crash.job(victim))["attempt"] == 1  # trying again would kill the next parser
        assert worker.code is None


async def test_a_hostile_file_fails_with_a_reason_while_its_neighbours_finish(crash: Crash) -> None:
    head = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Count 2000000000/Kids["
    tail = b"\nendstream endobj\ntrailer<</Root 1 0 R>>"
    page = b"]>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/Contents 3 0 R/MediaBox[0 0 1e9 1e9]>>stream\n" + b"q " * 100_000
    pages = b" ".join(b"3 0 R" for _ in range(50_000))
    hostile = head + pages + page + tail
    async with crash.worker():
        answer = await crash.person.upload(crash.corpus, "bomb.pdf", hostile, "application/pdf")
        assert answer.status_code == 202, answer.text
        neighbours = [await crash.person.text(crash.corpus, f"Neighbour {number}.", wait=False) for number in range(5)]
        told = await crash.person.settled(answer.json()["data"]["document_id"], 60)
        assert told["status"] == "failed"
        assert len(told["failure_reason"]) > 10
        for neighbour in neighbours:
            assert (await crash.person.settled(neighbour))["status"] == "succeeded"
