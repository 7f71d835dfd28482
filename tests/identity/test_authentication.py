"""From header to caller: one way to send a key, one answer to everything else, and a reason only to whoever holds the key."""

import asyncio
from datetime import timedelta

import pytest

from nexusrag.identity.api_keys.provision import create_key
from nexusrag.infra.database import Database
from nexusrag.kernel import clock
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import keyed_hash, mint
from tests.support.api import Api, Person, error_of
from tests.support.behind import rows
from tests.support.installation import Servers, http, serving
from tests.web.wire import send_raw

REFUSED = ("AUTH_UNAUTHORIZED", 401)


async def test_every_wrong_credential_gets_the_same_answer(api: Api) -> None:
    key, other = (await api.person()).key, (await api.person()).key
    wrong = [
        [],
        [b""], [b"Bearer"], [b"Bearer "], [b"Bearer  " + key.encode()], [b"Bearer\t" + key.encode()], [key.encode()],
        [b"Basic " + key.encode()], [b"Bearer " + key.encode() + b" x"], [b"Bearer " + key[:-1].encode()],
        [b"Bearer " + key.encode() + b"0"],
        [b"Bearer " + key[:-7].encode() + other[-7:].encode()], [b"Bearer " + key.upper().encode()], [b"Bearer nrag_api_x"],
        [b"Bearer ' or 1=1 --"], [b"Bearer " + b"a" * 8192], [b"Bearer " + b"a" * 50_000],
        [b"Bearer " + "nrag_äpi".encode()], [b"Bearer \xff\xfe"], [b"Bearer null"],
        [b"Bearer " + key.encode(), b"Bearer " + key.encode()], [b"Bearer " + key.encode(), b"Bearer " + other.encode()],
    ]  # fmt: skip
    start = b"GET /v1/corpora HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: same\r\n"
    answers = [
        await send_raw(api.base_url, start + b"".join(b"Authorization: " + value + b"\r\n" for value in values) + b"\r\n")
        for values in wrong
    ]
    assert {(answer.code, answer.status) for answer in answers} == {REFUSED}
    assert len({answer.body for answer in answers}) == 1


async def test_a_key_with_a_known_id_is_looked_for_like_one_that_never_was(servers: Servers) -> None:
    """Keys are found by their keyed hash alone: neither the answer nor the work behind it tells which ids exist."""
    async with serving(servers.with_env(API_DB_POOL_SIZE="1", API_DB_MAX_OVERFLOW="0")) as (app, url):
        api = Api(servers, app, url)
        person, asked = await api.person(), []
        async with app.state.resources.get(Database).work(None) as work:
            work.raw.add_query_logger(lambda record: asked.append(record.query))
        told = []
        for key_id in (new_id("key"), person.key_id, new_id("key"), person.key_id):
            asked.clear()
            forged = mint("api", key_id).secret
            answer = await api.anonymous().get("/v1/corpora", headers={"Authorization": f"Bearer {forged}", "X-Request-Id": "same"})
            # A process does other things beside its requests.
            statements = tuple(query for query in asked if "auth_" in query or "audit_events" in query)
            told.append((error_of(answer), answer.content, sorted(answer.headers), statements))
        assert told == told[:1] * 4
        assert told[0][0] == REFUSED
        assert "select * from auth_key($1)" in told[0][3]
        await api.close()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_may_be_spelt_in_any_case(api: Api, scheme: str) -> None:
    person = await api.person()
    assert (await api.anonymous().get("/v1/corpora", headers={"Authorization": f"{scheme} {person.key}"})).status_code == 200


async def test_a_key_counts_in_its_header_alone(api: Api) -> None:
    key, client = (await api.person()).key, api.anonymous()
    for options in (
        {"params": {"api_key": key}}, {"params": {"access_token": key}}, {"headers": {"X-API-Key": key}},
        {"headers": {"Cookie": f"api_key={key}"}},
        {"headers": {"Proxy-Authorization": f"Bearer {key}"}}, {"headers": {"X-Tenant-Id": "t1", "X-Role": "admin"}},
    ):  # fmt: skip
        assert error_of(await client.get("/v1/corpora", **options)) == REFUSED  # type: ignore[arg-type]


async def test_headers_of_development_change_nothing_for_a_real_key(api: Api) -> None:
    reader, other = await api.person("reader"), await api.person()
    headers = {"X-Tenant-Id": other.tenant, "X-Role": "admin", "X-User-Id": other.user_id}
    assert error_of(await reader.post("/v1/corpora", json={"name": "x"}, headers=headers)) == ("AUTH_FORBIDDEN", 403)
    assert (await other.get("/v1/corpora")).json()["data"] == []


async def stored(api: Api, person: Person) -> dict[str, object]:
    (row,) = await rows(api, "select * from api_keys where tenant_id = $1 and id = $2", person.tenant, person.key_id)
    return row


async def test_the_table_holds_a_keyed_hash_and_nothing_to_sign_in_with(api: Api) -> None:
    person = await api.person()
    row = await stored(api, person)
    pepper = api.servers.settings.auth.auth_key_pepper.get_secret_value()
    assert row["hash"] == keyed_hash(person.key, pepper)
    secret = person.key.rsplit("_", 1)[1]
    assert not any(secret in str(value) or secret.encode().hex() in str(value) for value in row.values())
    assert isinstance(row["hash"], bytes)
    for pretended in (row["hash"].hex(), str(row["prefix"])):
        assert error_of(await api.anonymous().get("/v1/corpora", headers={"Authorization": f"Bearer {pretended}"})) == REFUSED


async def test_use_is_noted(api: Api) -> None:
    person = await api.person()
    assert (await stored(api, person))["last_used_at"] is None
    await person.get("/v1/corpora")
    async with asyncio.timeout(5):
        while (await stored(api, person))["last_used_at"] is None:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("update api_keys set revoked_at = now() where tenant_id = $1", "AUTH_REVOKED_KEY"),
        ("update api_keys set expires_at = now() - interval '1 millisecond' where tenant_id = $1", "AUTH_EXPIRED_KEY"),
        ("update api_keys set active = false where tenant_id = $1", "AUTH_INACTIVE_KEY"),
        ("update users set status = 'disabled' where tenant_id = $1", "AUTH_UNAUTHORIZED"),
        ("update tenants set status = 'suspended' where id = $1", "AUTH_UNAUTHORIZED"),
        ("update api_keys set hash = sha256('') where tenant_id = $1", "AUTH_UNAUTHORIZED"),
    ],
)
async def test_a_key_that_is_no_longer_good_says_why(api: Api, change: str, code: str) -> None:
    person = await api.person()
    await rows(api, change, person.tenant)
    for path in ("/v1/corpora", "/v1/run"):
        assert error_of(await person.client.request("POST" if path == "/v1/run" else "GET", path)) == (code, 401)


async def test_a_cached_key_expires_on_time(api: Api) -> None:
    connection = await api.servers.admin()
    pepper = api.servers.settings.auth.auth_key_pepper.get_secret_value()
    soon = clock.now() + timedelta(seconds=1.5)
    made = await create_key(connection, pepper=pepper, tenant=new_id("t").replace("_", "-"), role="reader", name="x", expires_at=soon)
    await connection.close()
    async with http(api.base_url, made["api_key"]) as client, asyncio.timeout(10):
        assert (await client.get("/v1/corpora")).status_code == 200
        while (answer := await client.get("/v1/corpora")).status_code == 200:
            await asyncio.sleep(0.05)
    assert error_of(answer) == ("AUTH_EXPIRED_KEY", 401)
    assert clock.now() >= soon


async def test_a_key_carries_no_more_than_its_user_and_no_more_than_itself(api: Api) -> None:
    lowered, narrow = await api.person("admin"), await api.person("admin")
    await rows(api, "update users set role = 'reader' where tenant_id = $1", lowered.tenant)
    await rows(api, "update api_keys set role = 'editor' where tenant_id = $1", narrow.tenant)
    assert error_of(await lowered.post("/v1/corpora", json={"name": "x"})) == ("AUTH_FORBIDDEN", 403)
    assert (await narrow.post("/v1/corpora", json={"name": "x"})).status_code == 201
    assert error_of(await narrow.get("/v1/ops/health")) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.slow
async def test_a_header_of_ones_own_takes_the_bare_key(servers: Servers) -> None:
    async with serving(servers.with_env(AUTH_API_KEY_HEADER="X-API-Key")) as (app, url):
        api = Api(servers, app, url)
        key, client = (await api.person()).key, api.anonymous()
        assert (await client.get("/v1/corpora", headers={"X-API-Key": key})).status_code == 200
        assert (await client.get("/v1/corpora", headers={"X-API-Key": f"Bearer {key}"})).status_code == 200
        assert error_of(await client.get("/v1/corpora", headers={"Authorization": f"Bearer {key}"})) == REFUSED
        await api.close()
