"""Who may write into a journal: the process that holds the run, in the run's tenant, while it goes on."""

from datetime import timedelta

import pytest

from nexusrag.agents.runs import repository
from nexusrag.agents.runs.metering import Spent
from nexusrag.billing.ledger.facade import Caps
from nexusrag.infra.database import Database
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from tests.agents.scripted import Installation
from tests.billing.ledger.support import reservation
from tests.support.api import Person
from tests.support.installation import Servers, serving
from tests.support.processes import until


@pytest.fixture
def database(scripted: Installation) -> Database:
    return scripted.api.resources.get(Database)


async def begun(database: Database, person: Person) -> str:
    """A run that nobody drives."""
    run_id = new_id("run")
    async with database.work(person.tenant) as work:
        await repository.insert(
            work, reservation(run_id), Caps(), run_id=run_id, session_id="s", corpus_id="c", user_id=person.user_id, key_id=person.key_id,
            request_id="r", question="?", process="p",
        )  # fmt: skip
    return run_id


async def append(database: Database, tenant: str, run_id: str, epoch: int = 1) -> bool:
    async with database.work(None) as work:
        (mine,) = await repository.append(work, [repository.Part(tenant, run_id, epoch, [(1, "one"), (2, "two")], None)])
        return mine


async def journal(database: Database, tenant: str, run_id: str) -> list[tuple[int, str]]:
    async with database.work(tenant) as work:
        run = await repository.find(work, run_id)
        return await repository.events_after(work, run_id, run["day"], 0)


async def test_a_flush_that_comes_twice_is_written_once(scripted: Installation, database: Database) -> None:
    person = await scripted.api.person()
    run_id = await begun(database, person)
    for _ in range(2):
        assert await append(database, person.tenant, run_id)
    assert await journal(database, person.tenant, run_id) == [(1, "one"), (2, "two")]


async def test_nothing_is_written_to_another_tenants_run_or_by_whoever_lost_it_or_after_its_end(
    scripted: Installation, database: Database
) -> None:
    person, stranger = await scripted.api.person(), await scripted.api.person()
    run_id = await begun(database, person)
    assert not await append(database, stranger.tenant, run_id)
    assert not await append(database, person.tenant, run_id, epoch=2)
    assert await repository.finish(
        database, person.tenant, run_id, 1, state="failed", receipt={}, error_code=None, events=[], document_ids=None, messages=[],
        spent=Spent(0, (), False),
    )  # fmt: skip
    assert not await append(database, person.tenant, run_id)
    assert await journal(database, person.tenant, run_id) == []


async def test_the_tenant_that_a_flush_entered_is_left_with_its_transaction(scripted: Installation, database: Database) -> None:
    person = await scripted.api.person()
    run_id = await begun(database, person)
    single = Database(scripted.settings.stores, pool_size=1)
    try:
        assert await append(single, person.tenant, run_id)
        async with single.work(None) as work:  # the same connection, for somebody who names no tenant
            assert await work.raw.fetchval("select count(*) from runs") == 0
    finally:
        await single.close()


@pytest.mark.slow
async def test_an_api_without_workers_makes_the_days_of_the_journal(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexusrag.agents.runs.registry._ROLL_S", 0.05)
    coming = f"run_events_{clock.now() + timedelta(days=2):%Y%m%d}"
    admin = await servers.admin()
    try:
        async with serving(servers.settings):
            await admin.execute(f"drop table {coming}")

            async def there() -> bool:
                return bool(await admin.fetchval("select to_regclass($1) is not null", coming))

            await until(there)
    finally:
        await admin.close()
