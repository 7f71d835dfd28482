"""Installations whose limits are on. Each has keys of its own in Redis, so that what one test empties is full for the others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nexusrag.infra.redis import Redis
from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person
from tests.support.behind import rows
from tests.support.installation import Servers, serving


@asynccontextmanager
async def limited_by(servers: Servers, **env: str) -> AsyncIterator[Api]:
    """An API without a worker."""
    settings = servers.with_env(**{"RATE_LIMIT_ENABLED": "true", "RL_REDIS_PREFIX": f"test:{new_id('rl')}", **env})
    async with serving(settings) as (app, url):
        api = Api(servers, app, url)
        if "REDIS_URL" not in env:  # then no proxy makes it silent, and whether this machine can keep up is not what is tested
            api.resources.get(Redis)._budget_s = 5
        yield api
        await api.close()


@pytest.fixture(scope="session")
async def rated(servers: Servers) -> AsyncIterator[Api]:
    """Small buckets that refill so slowly that no test sees it: 4 reads of a key, 6 of a tenant; 3 writes and 5; 2 runs."""
    env = {
        "RL_KEY_READ_BURST": "4", "RL_TENANT_READ_BURST": "6", "RL_KEY_MUTATION_BURST": "3", "RL_TENANT_MUTATION_BURST": "5",
        "RL_KEY_RUN_BURST": "2",
    }  # fmt: skip
    slow = {name.replace("BURST", "RPS"): "0.001" for name in env}
    async with limited_by(servers, **env, **slow) as api:
        yield api


@pytest.fixture(scope="session")
async def counted(servers: Servers) -> AsyncIterator[Api]:
    """Rates off, units counted."""
    async with limited_by(servers, RATE_LIMIT_ENABLED="false") as api:
        yield api


async def limit(api: Api, tenant: str, **columns: object) -> None:
    """Set the quota of a tenant that has asked for nothing yet."""
    names, values = list(columns), list(columns.values())
    places = ", ".join(f"${number}" for number in range(2, len(values) + 2))
    await rows(api, f"insert into quota_limits (tenant_id, {', '.join(names)}) values ($1, {places})", tenant, *values)


async def used(person: Person) -> tuple[int, int]:
    """Units of the day and the month, by a request that counts none."""
    answer = await person.get("/v1/admin/plans")
    assert answer.status_code == 200, answer.text
    return int(answer.headers["X-Quota-Day-Used"]), int(answer.headers["X-Quota-Month-Used"])
