"""A change of plan acts in every process within a second, whoever makes it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from nexusrag.billing.plans import provision
from nexusrag.infra.changes import Changes
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited
from tests.support.installation import Servers, http, serving
from tests.support.processes import until

pytestmark = pytest.mark.slow
GATED = "/v1/ops/metrics"


@pytest.fixture(scope="module")
async def pair(servers: Servers) -> AsyncIterator[tuple[Api, Api]]:
    """Two processes' worth of caches, each of which would keep a caller for five minutes."""
    settings = servers.with_env(AUTH_CACHE_TTL_S="300", DEFAULT_PLAN="free")
    async with serving(settings) as (app, url), serving(settings) as (other_app, other_url):
        apis = Api(servers, app, url), Api(servers, other_app, other_url)

        async def listening() -> bool:
            return all(api.resources.get(Changes).live for api in apis)

        await until(listening)
        await apis[0].person()  # the home tenant is nobody's of the tests
        yield apis
        for api in apis:
            await api.close()


async def acts_everywhere(pair: tuple[Api, Api], person: Person, allowed: bool) -> None:
    """Soon both processes answer as the plan now says."""
    async with asyncio.timeout(5):
        for api in pair:
            async with http(api.base_url, person.key) as client:
                while (answer := await client.get(GATED)).status_code != (200 if allowed else 403):
                    await asyncio.sleep(0.01)
                assert allowed or error_of(answer) == ("FEATURE_NOT_ENABLED", 403)


async def test_an_assignment_and_an_override_act_everywhere_within_a_second(pair: tuple[Api, Api]) -> None:
    operator, person = await pair[0].operator(), await pair[0].person()
    where = f"/v1/admin/plans/{person.tenant}"
    await acts_everywhere(pair, person, False)  # now both know the key
    for path, body, allowed in (
        (where, {"plan_id": "pro"}, True),
        (f"{where}/overrides", {"feature_key": "feature.ops_admin_access", "enabled": False}, False),
        (f"{where}/overrides", {"feature_key": "feature.ops_admin_access", "enabled": None}, True),
        (where, {"plan_id": "free"}, False),
    ):
        assert (await operator.patch(path, json=body)).status_code == 200
        await acts_everywhere(pair, person, allowed)


async def test_the_command_line_acts_everywhere_within_a_second_and_is_on_record(pair: tuple[Api, Api]) -> None:
    person = await pair[0].person()
    await acts_everywhere(pair, person, False)
    connection = await pair[0].servers.admin()
    try:
        await provision.assign(connection, person.tenant, "pro")
        await acts_everywhere(pair, person, True)
        for state, allowed in (("off", False), ("on", True), ("off", False), ("default", True)):
            await provision.switch(connection, person.tenant, "feature.ops_admin_access", state)
            await acts_everywhere(pair, person, allowed)
        held = await provision.describe(connection, person.tenant, "free")
        assert (held["plan_id"], held["features"]["feature.ops_admin_access"], held["overridden"]) == ("pro", True, [])
    finally:
        await connection.close()
    assert (await person.get(f"/v1/admin/plans/{person.tenant}")).json()["data"]["plan_id"] == "pro"
    for event, times in (("plan.assigned", 1), ("plan.feature.overridden", 4)):
        found = await audited(pair[0], person.tenant, event)
        assert [(row["actor_type"], row["resource_id"]) for row in found] == [("cli", person.tenant)] * times


async def test_the_command_line_refuses_what_there_is_not(pair: tuple[Api, Api]) -> None:
    person = await pair[0].person()
    connection = await pair[0].servers.admin()
    try:
        for tenant, plan in (("nobody", "pro"), (person.tenant, "platinum")):
            with pytest.raises(ValueError, match="There is no"):
                await provision.assign(connection, tenant, plan)
        for tenant, key, state in (
            ("nobody", "feature.tts", "on"),
            (person.tenant, "feature.teleport", "on"),
            (person.tenant, "feature.tts", "maybe"),
        ):
            with pytest.raises(ValueError, match=r"There is no|on, off or default"):
                await provision.switch(connection, tenant, key, state)
    finally:
        await connection.close()
