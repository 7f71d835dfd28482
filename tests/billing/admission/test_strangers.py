"""Those who are not known yet are limited by address, before anything is looked up; those who are known are not held up by them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from nexusrag.identity.credentials.facade import CredentialCache
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import mint
from nexusrag.security.audit.facade import FailureSampler
from tests.billing.admission.conftest import limited_by
from tests.billing.admission.test_places import RATES
from tests.support.api import Api, error_of
from tests.support.behind import rows
from tests.support.installation import Servers
from tests.support.soon import soon

CALLS = "select calls from pg_stat_user_functions where funcname = 'auth_key'"


def forwarded(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


@pytest.fixture(scope="module")
async def guarded(servers: Servers) -> AsyncIterator[Api]:
    """Five strangers of an address at once; each test comes from an address of its own, through a proxy that is trusted."""
    env = {"RL_ADDRESS_BURST": "5", "RL_ADDRESS_RPS": "0.001", "TRUSTED_PROXIES": "127.0.0.1/32, 10.0.0.0/8"}
    async with limited_by(servers, **RATES, **env) as api:
        yield api


def any_key() -> str:
    return mint("api", new_id("key")).secret


async def test_keys_that_nobody_has_are_tried_a_few_times_and_no_more(guarded: Api) -> None:
    client, here = guarded.anonymous(), forwarded("198.51.100.1")
    answers = [await client.get("/v1/corpora", headers={**here, "Authorization": f"Bearer {any_key()}"}) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 3
    assert error_of(answers[-1]) == ("RATE_LIMITED", 429)
    assert (answers[-1].headers["X-RateLimit-Scope"], answers[-1].headers["X-RateLimit-Route-Class"]) == ("address", "read")


@pytest.mark.parametrize(
    ("method", "path", "address"),
    [
        ("GET", "/v1/corpora", "198.51.100.2"), ("POST", "/v1/auth/login", "198.51.100.3"), ("POST", "/v1/auth/refresh", "198.51.100.4"),
        ("GET", "/v1/auth/sso/oidc/p/start", "198.51.100.5"), ("POST", "/v1/auth/register", "2001:db8::1"), ("GET", "/health", None),
        ("GET", "/v1/metrics", None), ("GET", "/v1/openapi.json", "198.51.100.6"), ("GET", "/v1/scim/v2/Users", "198.51.100.7"),
    ],
)  # fmt: skip
async def test_public_routes_are_limited_unless_machines_probe_them(guarded: Api, method: str, path: str, address: str | None) -> None:
    client = guarded.anonymous()
    headers = forwarded(address or "198.51.100.8")
    statuses = [(await client.request(method, path, headers=headers, json={} if method == "POST" else None)).status_code for _ in range(8)]
    assert (429 in statuses[:5], set(statuses[5:]) == {429}) == (False, address is not None), statuses


async def test_an_address_of_ipv6_is_its_network(guarded: Api) -> None:
    client = guarded.anonymous()
    statuses = [(await client.get("/v1/openapi.json", headers=forwarded(f"2001:db8:0:7:{number:x}::1"))).status_code for number in range(8)]
    assert statuses == [200] * 5 + [429] * 3
    assert (await client.get("/v1/openapi.json", headers=forwarded("2001:db8:0:8::1"))).status_code == 200


async def test_a_made_up_forwarded_address_changes_nothing(guarded: Api) -> None:
    client = guarded.anonymous()
    statuses = [
        (await client.get("/v1/openapi.json", headers=forwarded(f"203.0.113.{number}, 198.51.100.9, 10.1.2.3"))).status_code
        for number in range(8)
    ]
    assert statuses == [200] * 5 + [429] * 3


async def test_without_trusted_proxies_nobody_says_where_they_come_from(servers: Servers) -> None:
    async with limited_by(servers, **RATES, RL_ADDRESS_BURST="5", RL_ADDRESS_RPS="0.001") as api:
        client = api.anonymous()
        statuses = [(await client.get("/v1/openapi.json", headers=forwarded(f"198.51.100.{number}"))).status_code for number in range(8)]
        assert statuses == [200] * 5 + [429] * 3


async def test_a_known_caller_is_not_held_up_by_a_flood_from_the_same_address(guarded: Api, servers: Servers) -> None:
    person, here = await guarded.person(), forwarded("198.51.100.20")
    assert (await person.get("/v1/corpora", headers=here)).status_code == 200
    flood = guarded.anonymous()
    for _ in range(8):
        last = await flood.get("/v1/corpora", headers={**here, "Authorization": f"Bearer {any_key()}"})
    assert last.status_code == 429
    assert (await person.get("/v1/corpora", headers=here)).status_code == 200
    # Nor where the credential is not kept any more, as in another process: that it was good before is known to all of them.
    cache = guarded.resources.get(CredentialCache)

    async def again() -> int:
        cache.clear()
        cache._last_known.clear()
        return (await person.get("/v1/corpora", headers=here)).status_code

    assert await again() == 200


async def test_a_good_key_costs_its_address_nothing(guarded: Api) -> None:
    here = forwarded("198.51.100.21")
    for _ in range(8):
        person = await guarded.person()
        assert (await person.get("/v1/corpora", headers=here)).status_code == 200
        await asyncio.sleep(0)
    strange = await guarded.anonymous().get("/v1/corpora", headers={**here, "Authorization": f"Bearer {any_key()}"})
    assert strange.status_code == 401


async def test_a_key_that_was_good_and_is_revoked_is_a_strangers(guarded: Api) -> None:
    admin, here = await guarded.person(), forwarded("198.51.100.22")
    person = await guarded.person(tenant=admin.tenant)
    assert (await person.get("/v1/corpora", headers=here)).status_code == 200
    await rows(guarded, "update api_keys set revoked_at = now() where id = $1", person.key_id)
    cache = guarded.resources.get(CredentialCache)
    statuses = []
    for _ in range(8):
        cache.clear()
        cache._last_known.clear()
        statuses.append((await person.get("/v1/corpora", headers=here)).status_code)
    assert statuses == [401] * 6 + [429] * 2  # the first took nothing, since it had been good


async def test_a_flood_is_on_record_once(guarded: Api) -> None:
    client, here = guarded.anonymous(), forwarded("198.51.100.30")
    guarded.resources.get(FailureSampler)._per_second = 0  # others fail all the time
    await asyncio.gather(*(client.get("/v1/corpora", headers=here) for _ in range(40)))

    async def told() -> int:
        found = await rows(
            guarded,
            "select id from audit_events where event_type = 'security.rate_limited' and tenant_id is null and ip_address = '198.51.100.30'",
        )
        return len(found)

    await soon(told, 1)


async def test_the_audit_log_names_the_client_and_not_the_proxy(guarded: Api) -> None:
    person = await guarded.person()
    made = await person.post("/v1/corpora", json={"name": "Corpus"}, headers=forwarded("198.51.100.31"))
    assert made.status_code == 201
    (event,) = await rows(
        guarded, "select ip_address from audit_events where tenant_id = $1 and event_type = 'corpora.created'", person.tenant
    )
    assert str(event["ip_address"]) == "198.51.100.31"
