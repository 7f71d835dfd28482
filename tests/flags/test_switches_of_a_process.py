"""What a process holds of the switches: read once per change, never by a request of its own, and not forgotten without a database."""

import asyncio
from time import monotonic
from typing import Any

import pytest

from nexusrag.flags.switches import repository
from nexusrag.flags.switches.switches import ALL, FLAGS, Switches
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Database
from nexusrag.kernel.switches import Switch
from nexusrag.settings.rollouts import RolloutSettings
from tests.support.api import Api
from tests.support.soon import soon
from tests.support.switched import forced


class Heard:
    """Switches on a table that is made up, and how often it was read."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changes = Changes(database)
        self.rows: list[dict[str, Any]] = []
        self.reads = 0
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()
        monkeypatch.setattr(repository, "everything", self._everything)
        self.switches = Switches(self.changes, database, RolloutSettings())

    async def _everything(self, connection: object) -> list[dict[str, Any]]:
        self.reads += 1
        seen = list(self.rows)
        await self.answering.wait()
        if self.away:
            raise ConnectionError("away")
        return seen

    def kill(self) -> None:
        self.rows = [{"key": "kill.run", "scope": "*", "forced": False, "value": True, "left_s": None}]

    async def killed(self) -> bool:
        return (await self.switches.current()).is_on(Switch.RUN)


@pytest.fixture
async def heard(api: Api, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("nexusrag.flags.switches.switches._PATIENCE_S", 5)  # where a change is expected, a busy machine may take its time
    # A database of its own: the shared process reads its switches as ever.
    database = Database(api.servers.settings.stores, pool_size=2)
    held = Heard(database, monkeypatch)
    await held.switches.open()
    yield held
    await held.switches.close()
    await database.close()


async def test_requests_read_nothing_while_changes_are_heard(heard: Heard) -> None:
    heard.changes.live = True
    await heard.killed()
    before = heard.reads
    for _ in range(200):
        assert not await heard.killed()
    assert heard.reads == before


async def test_a_change_is_read_once_for_all_that_wait(heard: Heard) -> None:
    heard.changes.live = True
    await heard.killed()
    before = heard.reads
    heard.kill()
    heard.changes.tell(FLAGS, ALL)
    assert all(await asyncio.gather(*(heard.killed() for _ in range(100))))
    assert heard.reads == before + 1


async def test_a_change_that_comes_while_one_is_read_is_read_as_well(heard: Heard) -> None:
    heard.changes.live = True
    await heard.killed()
    heard.answering.clear()
    heard.changes.tell(FLAGS, ALL)
    await soon(lambda: _of(heard.reads), 2)
    heard.kill()
    heard.changes.tell(FLAGS, ALL)
    heard.answering.set()
    assert await heard.killed()


async def _of(value: int) -> int:
    return value


async def test_while_changes_are_not_heard_the_table_is_read_at_most_once_a_second(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    heard.changes.live = False
    clock = monotonic() + 10
    monkeypatch.setattr("nexusrag.flags.switches.switches.monotonic", lambda: clock)
    await heard.killed()
    before = heard.reads
    heard.kill()
    for _ in range(100):
        clock += 0.009
        assert not await heard.killed()
    assert heard.reads == before
    clock += 0.2
    assert await heard.killed()
    assert heard.reads == before + 1


async def test_without_a_database_what_was_read_last_holds(heard: Heard) -> None:
    heard.changes.live = True
    heard.kill()
    heard.changes.tell(FLAGS, ALL)
    assert await heard.killed()
    heard.away = True
    heard.changes.tell(FLAGS, ALL)
    before = heard.reads
    for _ in range(50):
        assert await heard.killed()
    assert heard.reads <= before + 1


async def test_a_database_that_hangs_keeps_no_request_for_long(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexusrag.flags.switches.switches._PATIENCE_S", 0.25)
    heard.changes.live = True
    heard.answering.clear()
    heard.changes.tell(FLAGS, ALL)
    heard.kill()
    async with asyncio.timeout(4):  # less than what the database is given
        assert not await heard.killed()
    heard.changes.tell(FLAGS, ALL)
    heard.answering.set()
    await soon(heard.killed, True)


async def test_a_switch_does_not_wait_in_the_queue_for_connections(api: Api) -> None:
    """It is thrown when there is too much to do."""
    database = Database(api.servers.settings.stores, pool_size=1)
    changes = Changes(database)
    switches = Switches(changes, database, RolloutSettings())
    await switches.open()
    changes.start()
    try:
        async with database.work(None), forced(api, Switch.RUN, "t-crowded"):

            async def is_heard() -> bool:
                return (await switches.current()).is_on(Switch.RUN, "t-crowded")

            await soon(is_heard, True)
    finally:
        await changes.close()
        await switches.close()
        await database.close()
