"""The walls between tenants, each missing: the other makes up for it, and the tests that look at the missing one turn red."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from nexusrag.infra.database import Database
from nexusrag.infra.models import Base, TenantScoped
from tests.identity import test_tenant_walls as walls
from tests.support.api import Api, Person
from tests.support.behind import rows
from tests.support.installation import Servers
from tests.support.walls import Standing, walled

pytestmark = pytest.mark.slow
full = walls.full


async def foreign_entities(api: Api, mine: Person) -> set[str]:
    """Tables of which a session of this tenant reads a row of another, when a statement forgets to say whose rows it wants."""
    found = set()
    async with api.resources.get(Database).work(mine.tenant) as work:
        for entity in (mapper.class_ for mapper in Base.registry.mappers):
            if issubclass(entity, TenantScoped):
                seen = await work.session.scalars(select(entity).limit(1000))
                found |= {entity.__tablename__} if any(row.tenant_id not in (mine.tenant, None) for row in seen) else set()
    return found


@pytest.mark.parametrize("standing", ["both walls", "no criterion", "no row-level security", "no wall"])
async def test_a_statement_that_forgets_the_tenant_finds_others_only_without_any_wall(
    servers: Servers, full: tuple[Person, Person], standing: Standing
) -> None:
    async with walled(servers, standing) as api:
        found = await foreign_entities(api, full[0])
    assert (len(found) > 10) if standing == "no wall" else (found == set()), found


async def test_the_suite_turns_red_without_row_level_security(servers: Servers, full: tuple[Person, Person]) -> None:
    async with walled(servers, "no row-level security") as api:
        with turning_red():
            await walls.test_without_a_tenant_there_is_nothing(api, full)
        with turning_red():
            await walls.test_with_a_tenant_there_are_its_rows_alone(api, full)
        with turning_red():
            await walls.test_rows_cannot_be_given_to_or_taken_from_another_tenant(api, full)


async def test_the_suite_turns_red_without_the_criterion(servers: Servers, full: tuple[Person, Person]) -> None:
    async with walled(servers, "no criterion") as api:
        with turning_red():
            await walls.test_an_entity_of_another_tenant_is_written_by_neither_wall(api, full)


@pytest.mark.parametrize("change", ["no force row level security", "disable row level security"])
async def test_the_suite_turns_red_when_one_table_loses_its_wall(api: Api, change: str) -> None:
    await walls.test_every_tenants_table_is_walled_for_reading_and_writing(api)
    await rows(api, f"alter table groups {change}")
    try:
        with turning_red():
            await walls.test_every_tenants_table_is_walled_for_reading_and_writing(api)
    finally:
        await rows(api, "alter table groups enable row level security")
        await rows(api, "alter table groups force row level security")


@contextmanager
def turning_red() -> Iterator[None]:
    """What is inside fails as a test fails: it sees another thing than it demands, or another error than it waits for."""
    with pytest.raises((AssertionError, pytest.fail.Exception, DBAPIError, asyncpg.PostgresError)):
        yield
