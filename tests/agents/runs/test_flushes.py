"""One writer for all runs of a process: what they have pending goes together, and what befalls one of them is its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest

from nexusrag.access.policies.facade import unbound
from nexusrag.agents.runs import journal, repository
from nexusrag.agents.runs.journal import FLUSH_AT_BYTES, Journal
from nexusrag.agents.runs.live import LiveRun
from nexusrag.infra.database import Database
from nexusrag.infra.redis import Redis
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Role
from nexusrag.kernel.principal import Principal
from nexusrag.settings.stores import StoreSettings
from tests.agents.runs import test_journal as journals
from tests.agents.scripted import Installation
from tests.support.api import Person
from tests.support.installation import Servers
from tests.support.processes import database_proxy, until


class Writer:
    """A journal on a connection of its own, and runs that do as a test says."""

    def __init__(self, scripted: Installation, stores: StoreSettings) -> None:
        self.resources = Resources()
        self.database = self.resources.put(Database, Database(stores, pool_size=1))
        self.resources.put(Redis, scripted.api.resources.get(Redis))
        self.journal = self.resources.put(Journal, Journal(self.resources))
        self._behind = scripted.api.resources.get(Database)
        self.tasks: list[asyncio.Task[None]] = []

    async def runs(self, count: int, *people: Person) -> list[LiveRun]:
        """Runs of these people in turn, in the order of their ids, that have begun and wait."""
        return [await self._run(people[place % len(people)]) for place in range(count)]

    async def _run(self, person: Person) -> LiveRun:
        run_id = await journals.begun(self._behind, person)
        principal = Principal(tenant_id=person.tenant, subject_id=person.user_id, role=Role.ADMIN, credential_id=person.key_id)
        live = LiveRun(
            self.resources, unbound(principal), run_id=run_id, session_id="s", request_id="r", slot=None, on_pending=self.journal.note
        )
        live.task = asyncio.create_task(_waiting())
        self.tasks.append(live.task)
        return live

    async def written(self, live: LiveRun) -> str:
        events = await journals.journal(self._behind, live.principal.tenant_id, live.run_id)
        return "".join(payload for _, payload in events)

    async def all_written(self, *runs: LiveRun) -> None:
        """Once the journals of these runs have just what their readers were shown."""

        async def same() -> bool:
            return all([live.journalled and await self.written(live) == b"".join(live._frames).decode() for live in runs])

        await until(same)

    async def in_hand(self, live: LiveRun) -> None:
        """Once a transaction has what the run has pending."""

        async def writing() -> bool:
            return live in self.journal._writing

        await until(writing)

    async def heard(self) -> list[str]:
        """What the connection is asked from now on."""
        statements: list[str] = []
        async with self.database.work(None) as work:  # the driver looks at types once
            await repository.append(work, [repository.Part("t-nobody", "run_none", 1, [], None)])
        for pooled in self.database.pool.idle:
            pooled.raw.add_query_logger(lambda record: statements.append(record.query.partition("(")[0]))
        return statements

    @asynccontextmanager
    async def held(self, live: LiveRun) -> AsyncIterator[None]:
        """The run's row is locked by somebody else."""
        async with self._behind.work(live.principal.tenant_id) as work:
            await work.raw.execute("select 1 from runs where id = $1 for update", live.run_id)
            yield

    async def is_free(self, live: LiveRun) -> bool:
        """Whether the run's row is locked by nobody."""
        async with self._behind.work(live.principal.tenant_id) as work:
            return bool(await work.raw.fetch("select 1 from runs where id = $1 for update skip locked", live.run_id))

    async def leases(self, live: LiveRun, *others: LiveRun) -> list[datetime]:
        """Until when the rows of runs of one tenant are leased."""
        async with self._behind.work(live.principal.tenant_id) as work:
            return [await work.raw.fetchval("select leased_until from runs where id = $1", one.run_id) for one in (live, *others)]


async def _waiting() -> None:
    await asyncio.Event().wait()


def numbers(pending: list[tuple[int, str]]) -> list[int]:
    return [seq for seq, _ in pending]


@asynccontextmanager
async def writing(scripted: Installation, stores: StoreSettings) -> AsyncIterator[Writer]:
    writer = Writer(scripted, stores)
    writer.journal.start()
    try:
        yield writer
    finally:
        for task in writer.tasks:
            task.cancel()
        await writer.journal.close()
        await writer.database.close()


@pytest.fixture
async def writer(scripted: Installation) -> AsyncIterator[Writer]:
    async with writing(scripted, scripted.settings.stores) as held:
        yield held


async def test_runs_of_two_tenants_are_written_in_one_transaction(
    scripted: Installation, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "FLUSH_AFTER_S", 60)  # none but the one that has much is in a hurry
    runs = await writer.runs(12, await scripted.api.person(), await scripted.api.person())
    statements = await writer.heard()
    for live in runs:
        live.emit("token.delta", {"delta": live.run_id})
    runs[5].emit("token.delta", {"delta": "x" * FLUSH_AT_BYTES})
    await writer.all_written(*runs)
    assert statements == ["RESET ALL; BEGIN; SET LOCAL lock_timeout = '1000'", "select journal_append", "COMMIT"]


async def test_more_than_a_transaction_takes_goes_with_the_next_at_once(
    scripted: Installation, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "FLUSH_AFTER_S", 60)
    monkeypatch.setattr(journal, "_BATCH_RUNS", 3)
    runs = await writer.runs(8, await scripted.api.person())
    statements = await writer.heard()
    for live in runs:
        live.emit("token.delta", {"delta": "x" * (FLUSH_AT_BYTES if live is runs[0] else journal._BATCH_BYTES if live is runs[4] else 1)})
    await writer.all_written(*runs)
    assert statements.count("COMMIT") == 4  # 0 1 2, 3, 4, 5 6 7: what is too much for all goes alone


async def test_a_run_that_was_lost_ends_and_the_others_go_on(scripted: Installation, writer: Writer) -> None:
    one, lost, other = await writer.runs(3, await scripted.api.person())
    lost.epoch = 2  # as if another process had taken it
    for live in (one, lost, other):
        live.emit("token.delta", {"delta": "one"})
    await writer.all_written(one, other)
    assert lost.task is not None
    assert one.task is not None
    await asyncio.wait([lost.task], timeout=5)
    assert lost.task.cancelled()
    assert (lost.lost, lost.journalled, await writer.written(lost)) == (True, False, "")
    assert (one.lost, one.journalled, one.task.done()) == (False, True, False)


async def test_events_that_are_refused_keep_nobody_elses_from_being_written(scripted: Installation, writer: Writer) -> None:
    one, refused, other = await writer.runs(3, await scripted.api.person(), await scripted.api.person())
    for said in ("one", "two"):
        for live in (one, other):
            live.emit("token.delta", {"delta": said})
        refused.emit("token\0delta", {})  # which the database does not take
        await writer.all_written(one, other)
    assert not refused.lost
    assert numbers(await writer.journal.take(refused)) == [1, 2]


async def test_a_database_that_comes_back_is_given_everything_in_its_order(
    servers: Servers, scripted: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    monkeypatch.setattr(journal.log, "warning", lambda event, **_: failures.append(event))
    async with database_proxy(servers) as (proxy, url), writing(scripted, servers.with_env(DATABASE_URL=url).stores) as writer:
        runs = await writer.runs(3, await scripted.api.person(), await scripted.api.person())

        def lose(piece: bytes) -> bool:
            """In the middle of the first flush."""
            proxy.refusing = proxy.refusing or b"journal_append" in piece
            return proxy.refusing

        proxy.cut_after = lose
        for number in (1, 2, 3):

            async def failed(times: int = number) -> bool:
                return len(failures) >= times

            for live in runs:
                live.emit("token.delta", {"delta": str(number)})
            await until(failed)
        assert numbers(await writer.journal.take(runs[0])) == [1, 2, 3]
        proxy.refusing, proxy.cut_after = False, lambda _: False
        await writer.all_written(*runs[1:])


async def test_the_process_stops_in_the_middle_of_a_flush(scripted: Installation, writer: Writer) -> None:
    runs = await writer.runs(2, await scripted.api.person())
    for live in runs:
        live.emit("token.delta", {"delta": "one"})
    async with writer.held(runs[1]):
        await writer.in_hand(runs[1])
        runs[1].emit("token.delta", {"delta": "two"})
        await writer.journal.close()
    assert [numbers(await writer.journal.take(live)) for live in runs] == [[1], [1, 2]]
    assert [await writer.written(live) for live in runs] == ["", ""]


async def test_an_end_waits_for_a_flush_of_its_own_events_alone(
    scripted: Installation, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_PATIENCE", {})
    one, other = await writer.runs(2, await scripted.api.person())
    one.emit("token.delta", {"delta": "one"})
    async with writer.held(one):
        await writer.in_hand(one)
        other.emit("token.delta", {"delta": "one"})
        ending = asyncio.create_task(writer.journal.take(one))
        async with asyncio.timeout(5):
            assert numbers(await writer.journal.take(other)) == [1]
        await asyncio.wait([ending], timeout=0.05)
        assert not ending.done()
    assert await ending == []
    await writer.all_written(one)


async def test_a_row_that_somebody_holds_delays_its_own_run(scripted: Installation, writer: Writer) -> None:
    one, held, other = await writer.runs(3, await scripted.api.person())
    async with writer.held(held):
        for live in (one, held, other):
            live.emit("token.delta", {"delta": "one"})
        await writer.all_written(one, other)
    await writer.all_written(held)


async def test_rows_of_runs_are_locked_in_the_order_of_their_ids(scripted: Installation, writer: Writer) -> None:
    """Flushes hold the rows of many runs, and would wait for each other."""
    first, second, third = await writer.runs(3, await scripted.api.person())
    first.emit("token.delta", {"delta": "one"})
    await writer.all_written(first)  # where its row stands now is behind the others'
    async with writer.held(second):
        for live in (third, first, second):
            live.emit("token.delta", {"delta": "two"})

        async def locked() -> bool:
            return not await writer.is_free(first)

        await until(locked)
        assert await writer.is_free(third)
    await writer.all_written(first, second, third)


async def test_a_row_that_somebody_holds_delays_no_renewal(scripted: Installation, writer: Writer) -> None:
    runs = await writer.runs(3, await scripted.api.person())
    ids, before = [live.run_id for live in runs], await writer.leases(*runs)
    async with writer.held(runs[1]), writer.database.work(None, options={"lock_timeout": "1"}) as work:
        assert await repository.renew(work, ids, "p") == dict.fromkeys(ids, False)  # it is still ours
    renewed = [after > lease for after, lease in zip(await writer.leases(*runs), before, strict=True)]
    assert renewed == [True, False, True]
    async with writer.database.work(None) as work:
        assert await repository.renew(work, ids, "somebody else's") == {}


async def test_a_fault_that_nobody_foresaw_does_not_end_the_writer(
    scripted: Installation, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, failed = Journal._flush, []

    async def failing(self: Journal) -> bool:
        if not failed:
            failed.append(self)
            raise RuntimeError("nobody foresaw this")
        return await flush(self)

    monkeypatch.setattr(Journal, "_flush", failing)
    (live,) = await writer.runs(1, await scripted.api.person())
    live.emit("token.delta", {"delta": "one"})
    await writer.all_written(live)
    assert failed
