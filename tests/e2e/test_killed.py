"""SIGKILL, as the kernel sends it when memory is short: to a worker, to the API, to `up` itself. Nothing accepted is lost or doubled."""

import asyncio
import os
import signal
from collections.abc import Iterator

import httpx
import pytest

from nexusrag.infra.jobs import LEASE_S
from tests.e2e.commands import Home, Up, new_home
from tests.support.api import Person
from tests.support.processes import is_alive, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

UPLOADS = 20
UNLIMITED = {"RATE_LIMIT_ENABLED": "false"}  # these clients do not wait
OURS = ("nexusrag.cli.main", "sandbox_child")


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with new_home() as made:
        yield made


def story(number: int, paragraphs: int = 3) -> str:
    """A document of about `paragraphs` chunks, no two alike, with a word that no other document has."""
    return "\n\n".join(
        f"Section {place} of the tale of keeper{number}. " + f"On day {place} the lamp of tower {number} burned {place * 7} minutes. " * 16
        for place in range(paragraphs)
    )


async def indexed(home: Home, corpus: str) -> list[tuple[str, str, int, int, int]]:
    """For each document of a corpus: id, status, chunks it says it has, chunks there are, and versions of it."""
    rows = await home.sql(
        "select d.id, d.status, coalesce(d.num_chunks, 0) as said, "
        "count(c.id) as held, count(distinct v.id) as versions from documents d "
        "left join document_versions v on v.tenant_id = d.tenant_id and v.document_id = d.id left join chunks c on c.version_id = v.id "
        "where d.corpus_id = $1 group by d.tenant_id, d.id order by d.id",
        corpus,
    )
    return [tuple(row) for row in rows]


async def embedding_process(home: Home) -> int:
    """Its pid, 0 while there is none."""
    return next((pid for pid, line in home.processes().items() if "embeddings.local.server" in line), 0)


async def test_a_killed_worker_has_its_job_running_again_within_15_s(home: Home) -> None:
    async with home.up("--no-demo", **UNLIMITED) as up, up.person() as person:
        corpus = await person.corpus()
        # The model stands still, so that the worker dies in the middle of embedding, however fast the machine.
        model = await until(lambda: embedding_process(home))

        async def embedding() -> bool:
            return bool((await person.get(f"/v1/documents/{document}")).json()["data"]["status"] == "processing")

        os.kill(model, signal.SIGSTOP)
        try:
            document = await person.text(corpus, story(1), wait=False)
            await until(embedding)
            worker = up.child("worker")
            (before,) = await home.sql(
                "select id, epoch, clock_timestamp() as now from jobs where kind = 'document.ingest' and state = 'running'"
            )
            os.kill(worker, signal.SIGKILL)
        finally:  # the home is shared: a model left standing would fail the tests after this one
            os.kill(model, signal.SIGCONT)
        assert (await person.settled(document, 90))["status"] == "succeeded"
        (job,) = await home.sql(
            "select *, extract(epoch from started_at - $1)::float8 as delay from jobs where id = $2", before["now"], before["id"]
        )
        assert 0 < job["delay"] <= 15
        assert (job["state"], job["epoch"], job["attempt"]) == ("succeeded", before["epoch"] + 1, 2)
        print(f"\nthe job ran again {job['delay']:.1f} s after its worker was killed (at most 15; a lease is {LEASE_S:.0f} s)")
        ((_, status, said, held, versions),) = await indexed(home, corpus)
        assert (status, held, versions) == ("succeeded", said, 1)
        assert said > 1
        assert not is_alive(worker)
        assert up.child("worker") != worker
        assert f"worker 1 ended (exit code -{signal.SIGKILL})" in up.output
        assert await up.stop() == 0


async def test_a_killed_api_serves_again(home: Home) -> None:
    async with home.up("--no-demo", **UNLIMITED) as up, up.person() as person:
        corpus = await person.corpus()
        api = up.child("api")
        os.kill(api, signal.SIGKILL)

        async def serves() -> bool:
            try:
                return (await person.get(f"/v1/corpora/{corpus}")).status_code == 200
            except httpx.TransportError:
                return False

        await until(serves, 30, 0.1)
        assert not is_alive(api)
        assert f"api ended (exit code -{signal.SIGKILL})" in up.output
        await person.text(corpus, story(2, 1))
        assert await person.search(corpus, "keeper2")
        assert await up.stop() == 0


async def test_a_killed_up_loses_nothing_that_was_accepted(home: Home) -> None:
    async with home.up("--no-demo", **UNLIMITED) as up, up.person() as person:
        corpus = await person.corpus()
        accepted = await asyncio.gather(*(send(person, corpus, number) for number in range(UPLOADS)))
        up.process.kill()
        key = person.key

        async def none_left() -> bool:
            """Of the processes that `up` answers for; the servers go on, and the next `up` takes them over."""
            return not any(part in line for line in home.processes().values() for part in OURS)

        await until(none_left, 10)
    assert len(set(accepted)) == UPLOADS
    there = await indexed(home, corpus)
    assert [document for document, *_ in there] == sorted(accepted)
    unfinished = [status for _, status, *_ in there if status != "succeeded"]
    assert unfinished, "the kill came too late to show anything"
    print(f"\n{len(unfinished)} of {UPLOADS} accepted documents were not done when `up` was killed")

    async with home.up("--no-demo", "--workers", "2", **UNLIMITED) as again:

        async def two_work() -> bool:
            """A process that a worker starts bears the worker's command line for a moment."""
            return sum("nexusrag.cli.main worker" in line for line in home.processes().values()) == 2

        await until(two_work)
        await check(again, key, corpus, accepted)
        assert await again.stop() == 0


async def send(person: Person, corpus: str, number: int) -> str:
    """An upload that was answered 202; the id of its document."""
    while (answer := await person.upload(corpus, f"{number}.txt", story(number).encode())).status_code == 503:
        await asyncio.sleep(0.05)  # the API is full, and says so
    assert answer.status_code == 202, answer.text
    return str(answer.json()["data"]["document_id"])


async def check(up: Up, key: str, corpus: str, accepted: list[str]) -> None:
    """Each accepted document is searchable, with each of its chunks once."""
    async with httpx.AsyncClient(base_url=up.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        person = Person(client, {"tenant_id": "t9", "user_id": "", "key_id": "", "api_key": key})
        for document in accepted:
            assert (await person.settled(document, 90))["status"] == "succeeded"
        for number, document in enumerate(accepted):
            passages = await person.search(corpus, f"keeper{number}", top_k=50)
            mine = [passage["chunk_id"] for passage in passages if passage["document_id"] == document]
            assert mine
            assert len(set(mine)) == len(mine)
            assert passages[0]["document_id"] == document
    for _, status, said, held, versions in await indexed(up.home, corpus):
        assert (status, held, versions) == ("succeeded", said, 1)
        assert said > 0
