"""PostgreSQL restarted or away: coded answers meanwhile, everything as before afterwards."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from nexusrag.embedded.postgres import EmbeddedPostgres
from nexusrag.kernel.ids import new_id
from tests.agents.scripted import Installation, asking, check_grammar, installation
from tests.support.api import error_of
from tests.support.installation import Servers, working
from tests.support.processes import until

pytestmark = [pytest.mark.slow]


class Own(Servers):
    """Servers of which PostgreSQL may be stopped without disturbing other tests."""

    @property
    def postgres(self) -> EmbeddedPostgres:
        (server,) = [server for server in self.environment.servers if isinstance(server, EmbeddedPostgres)]
        return server

    async def stop(self) -> None:
        await asyncio.to_thread(self.postgres.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self.postgres.start)

    async def restart(self) -> None:
        await self.stop()
        await self.start()


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Own]:
    held = Own()
    yield held
    held.close()


@pytest.fixture
async def held(own_servers: Own) -> AsyncIterator[Installation]:
    async with installation(own_servers) as made:
        yield made


@asynccontextmanager
async def away(servers: Own) -> AsyncIterator[None]:
    await servers.stop()
    try:
        yield
    finally:
        await servers.start()


async def test_a_restart_in_the_middle_of_a_run(held: Installation, own_servers: Own) -> None:
    person, corpus = await held.asker()
    session, release = new_id("s"), asyncio.Event()
    async with asking(person, corpus, held.model.play("one ", release, "two [1]."), session_id=session) as stream:
        await stream.read(2)
        await own_servers.restart()
        assert (await person.get("/v1/documents")).status_code == 200
        release.set()
        events = await stream.rest()
    check_grammar(events)
    assert events[-2].type == "message.final"
    assert (await person.get(f"/v1/runs/{stream.run_id}/events")).text == stream.text
    check_grammar(await person.run(corpus, "And now?", session_id=session))


async def test_a_run_whose_database_is_gone_ends_with_a_code(held: Installation, own_servers: Own) -> None:
    person, corpus = await held.asker()
    session, release = new_id("s"), asyncio.Event()
    async with asking(person, corpus, held.model.play("one ", release, "two [1]."), session_id=session) as stream:
        await stream.read(2)
        async with away(own_servers):
            release.set()
            events = await stream.rest()
    check_grammar(events)
    assert [event.data["data"].get("code") for event in events if event.type == "error"] == ["SERVICE_UNAVAILABLE"]
    check_grammar(await person.run(corpus, "Who is the lighthouse keeper?", session_id=session))


async def test_requests_during_a_restart_are_served_or_told_to_come_back(held: Installation, own_servers: Own) -> None:
    person, corpus = await held.asker()
    seen: Counter[tuple[int, str]] = Counter()
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            answer = await person.get(f"/v1/documents?corpus_id={corpus}")
            code = "" if answer.status_code == 200 else answer.json()["error"]["code"]
            seen[(answer.status_code, code)] += 1

    asking_all = asyncio.gather(*(ask() for _ in range(8)))
    for _ in range(3):
        await own_servers.restart()

        async def served() -> bool:
            return (await person.get("/v1/documents")).status_code == 200

        await until(served, 5)
    over.set()
    await asyncio.wait_for(asking_all, 20)
    assert set(seen) <= {(200, ""), (503, "SERVICE_UNAVAILABLE")}
    assert seen[(200, "")] > 0


async def test_while_it_is_away_requests_are_refused_with_a_code(held: Installation, own_servers: Own) -> None:
    person, corpus = await held.asker()
    async with away(own_servers):
        for answer in (
            await person.get("/v1/documents"),
            await person.post("/v1/run", json={"session_id": new_id("s"), "corpus_id": corpus, "message": "Who?"}),
            await person.post("/v1/documents/text", json={"corpus_id": corpus, "text": "Lost?"}),
            await person.upload(corpus, "a.txt", b"Lost?"),
        ):
            assert error_of(answer) == ("SERVICE_UNAVAILABLE", 503)
            assert answer.headers["Retry-After"] == "1"
        assert (await held.api.anonymous().get("/v1/health")).status_code == 200
        assert (await held.api.anonymous().get("/v1/metrics")).status_code == 200
    assert (await person.get(f"/v1/documents?corpus_id={corpus}")).status_code == 200
    assert len((await person.get(f"/v1/documents?corpus_id={corpus}")).json()["data"]) == 1
    blobs = [path for path in (own_servers.home / "blobs").rglob("*") if path.is_file() and "partial" in path.parts]
    assert blobs == []


async def test_while_it_is_away_ops_health_says_so(held: Installation, own_servers: Own) -> None:
    person, _ = await held.asker()
    assert (await person.get("/v1/ops/health")).status_code == 200
    async with away(own_servers):
        answer = await person.get("/v1/ops/health")
        assert answer.status_code == 200, answer.text
        told = answer.json()["data"]
        assert told["status"] == "degraded"
        assert "db" in told["degraded"]
        assert (told["db"], told["redis"]) == ("degraded", "ok")
        # Whoever was never checked is not let in, and nothing but the state of things is told without a database.
        stranger = held.api.anonymous()
        stranger.headers["Authorization"] = f"Bearer {person.key[:-1]}{'a' if person.key[-1] != 'a' else 'b'}"
        assert (await stranger.get("/v1/ops/health")).status_code == 401
        for path in ("/v1/corpora", "/v1/ops/slo", "/v1/ops/authz/posture"):
            assert error_of(await person.get(path)) == ("SERVICE_UNAVAILABLE", 503)


async def test_while_it_is_away_the_other_views_of_operations_answer(held: Installation, own_servers: Own) -> None:
    person, _ = await held.asker()
    assert (await person.get("/v1/ops/ingestion")).json()["data"]["status"] == "ok"
    async with away(own_servers):
        answer = await person.get("/v1/ops/ingestion", params={"hours": 7})
        assert answer.status_code == 200, answer.text
        told = answer.json()["data"]
        assert (told.pop("status"), told.pop("hours")) == ("degraded", 7)
        assert set(told.values()) == {None}
        answer = await person.get("/v1/ops/metrics")
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"]["gauges"]


async def test_a_key_refused_before_is_not_remembered_while_it_is_away(held: Installation, own_servers: Own) -> None:
    person, _ = await held.asker()
    admin = await own_servers.admin()
    await admin.execute("update api_keys set revoked_at = now() where id = $1", person.key_id)
    await admin.execute("select pg_notify('nexusrag_changes', $1)", f"credential {person.key_id}")
    await admin.close()

    async def refused() -> bool:
        return (await person.get("/v1/ops/health")).status_code == 401

    await until(refused, 5)
    async with away(own_servers):
        assert error_of(await person.get("/v1/ops/health")) == ("SERVICE_UNAVAILABLE", 503)


async def test_a_worker_outlives_a_restart(own_servers: Own) -> None:
    settings = own_servers.with_env(INGEST_QUEUE_NAME=new_id("queue"))
    async with installation(own_servers, INGEST_EXECUTION_MODE="queue", INGEST_QUEUE_NAME=settings.ingestion.ingest_queue_name) as made:
        person = await made.api.person()
        corpus = await person.corpus()
        async with working(settings):
            await person.text(corpus, "Before.")
            await own_servers.restart()
            await person.text(corpus, "After.")
