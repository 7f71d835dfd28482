"""Endpoints of a hostile provider: too long, too slow, of another kind, leading elsewhere. Each login is refused, and nothing is left."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from nexusrag.identity.sso import keysets
from tests.identity.sso.world import EXCHANGE, INVALID, World, described, keep_secret, made
from tests.support.api import Api, error_of
from tests.support.behind import count, rows
from tests.support.installation import Servers, serving
from tests.support.openid_provider import Answer, OpenIDProvider, answering, b64, openid_provider, rsa

MEGABYTE = 1024 * 1024
MARKUP = '{"error": "x", "error_description": "\\u0000<script>alert(1)</script>"}'
METADATA = "http://169.254.169.254/latest/meta-data"


def endless(piece: bytes = b" " * 4096) -> Answer:
    """An answer that goes on and on."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        while True:
            await response.write(piece)

    return answer


def many_keys(number: int) -> str:
    return json.dumps({"keys": [{"kty": "RSA", "kid": str(each)} for each in range(number)]})


ANSWERS: dict[str, tuple[str, Answer, tuple[str, int]]] = {
    "the code is refused": ("/token", answering('{"error": "invalid_grant"}', 400), EXCHANGE),
    "an error called a success": ("/token", answering('{"error": "invalid_grant", "id_token": "a.b.c"}'), EXCHANGE),
    "no ID token": ("/token", answering('{"access_token": "x", "token_type": "Bearer"}'), EXCHANGE),
    "no ID token but null": ("/token", answering('{"access_token": "x", "id_token": null}'), INVALID),
    "an internal error": ("/token", answering("oops", 500), EXCHANGE),
    "an error that is described with markup": ("/token", answering(MARKUP), EXCHANGE),
    "a page": ("/token", answering("<html><script>alert(1)</script></html>", headers={"Content-Type": "text/html"}), EXCHANGE),
    "nothing": ("/token", answering(""), EXCHANGE),
    "a list": ("/token", answering("[]"), EXCHANGE),
    "too deep": ("/token", answering("[" * 200_000), EXCHANGE),
    "ten megabytes": ("/token", answering(b" " * 10 * MEGABYTE), EXCHANGE),
    "without an end": ("/token", endless(), EXCHANGE),
    "compressed though not asked": ("/token", answering(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), EXCHANGE),
    "a redirect to the machine's metadata": ("/token", answering("", 302, {"Location": METADATA}), EXCHANGE),
    "keys: ten megabytes": ("/keys", answering(b" " * 10 * MEGABYTE), EXCHANGE),
    "keys: a hundred thousand": ("/keys", answering(many_keys(100_000)), EXCHANGE),
    "keys: more than anybody has": ("/keys", answering(many_keys(101)), EXCHANGE),
    "keys: without an end": ("/keys", endless(), EXCHANGE),
    "keys: a redirect to the machine's metadata": ("/keys", answering("", 302, {"Location": METADATA}), EXCHANGE),
    "keys: a redirect to good ones": ("/keys", answering("", 307, {"Location": "/other"}), EXCHANGE),
    "keys: a page": ("/keys", answering("<html></html>"), EXCHANGE),
    "keys: no list": ("/keys", answering('{"keys": {"rsa": 1}}'), EXCHANGE),
    "keys: no objects": ("/keys", answering('{"keys": ["rsa", 5, null]}'), INVALID),
    "keys: none": ("/keys", answering('{"keys": []}'), INVALID),
    "keys: an internal error": ("/keys", answering("", 503), EXCHANGE),
    "userinfo: about somebody else": ("/userinfo", answering('{"sub": "boss", "email": "boss@example.com"}'), INVALID),
    "userinfo: about nobody": ("/userinfo", answering('{"email": "boss@example.com", "email_verified": true}'), INVALID),
    "userinfo: a page": ("/userinfo", answering("<html></html>"), EXCHANGE),
    "userinfo: ten megabytes": ("/userinfo", answering(b" " * 10 * MEGABYTE), EXCHANGE),
    "userinfo: refused": ("/userinfo", answering("{}", 401), EXCHANGE),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_that_is_not_right_ends_the_login(world: World, case: str) -> None:
    path, answer, refusal = ANSWERS[case]
    await world.change(userinfo_url=f"{world.idp.url}/userinfo")
    world.idp.answers = {path: answer, "/other": answering(json.dumps({"keys": world.idp.published}))}
    refused = await world.browser().login()
    assert error_of(refused) == refusal, refused.text
    assert "alert" not in refused.text
    assert world.idp.asked("/other") == 0
    assert await count(world.api, "select count(*) from users where tenant_id = $1 and not service", world.admin.tenant) == 0


async def test_a_good_answer_that_is_too_long_is_refused(world: World) -> None:
    await world.change(userinfo_url=f"{world.idp.url}/userinfo")
    world.idp.userinfo["pad"] = "x" * MEGABYTE
    assert error_of(await world.browser().login()) == EXCHANGE
    world.idp.userinfo.clear()
    world.idp.token_extra["pad"] = "x" * MEGABYTE
    assert error_of(await world.browser().login()) == EXCHANGE
    world.idp.token_extra.clear()
    await rows(world.api, "update identity_providers set jwks_url = $2 where id = $1", world.id, f"{world.idp.url}/other")
    world.idp.answers["/other"] = answering(json.dumps({"keys": world.idp.published, "pad": "x" * 300_000}))
    assert error_of(await world.browser().login()) == EXCHANGE
    world.idp.answers["/other"] = answering(json.dumps({"keys": world.idp.published, "pad": "x" * 200_000}))
    await world.browser().session()


@pytest.fixture
async def hasty(servers: Servers, idp: OpenIDProvider) -> AsyncIterator[World]:
    """An API that waits 300 ms for a provider."""
    async with serving(servers.with_env(EXT_CALL_TIMEOUT_MS="300")) as (app, url):
        api = Api(servers, app, url)
        admin = await api.person()
        world = World(api, admin, idp, await made(admin, described(idp, keep_secret(api, admin.tenant))))
        yield world
        await world.close()
        await api.close()


@pytest.mark.slow
async def test_a_provider_that_is_slow_is_given_up(hasty: World) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    for path in ("/token", "/keys"):
        hasty.idp.answers = {path: trickle}
        async with asyncio.timeout(5):
            assert error_of(await hasty.browser().login()) == EXCHANGE
    hasty.idp.answers = {}
    await hasty.browser().session()


ADDRESSES = [
    "http://169.254.169.254/token", "http://10.0.0.1/token", "http://[::1]/token", "http://0x7f.1/token", "http://2852039166/token",
    "http://[::ffff:169.254.169.254]/token", "http://metadata.google.internal./token", "http://user@127.0.0.1/token",
    "http://127.0.0.1:6379/token", "http://127.0.0.1\\@example.com/token", "ftp://127.0.0.1/token", "file:///etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("column", ["token_url", "jwks_url", "auth_url", "userinfo_url"])
async def test_an_address_is_checked_each_time_it_is_called(world: World, column: str) -> None:
    """What stands in the row may have been allowed once, or a name may mean something else by now."""
    await world.change(userinfo_url=f"{world.idp.url}/userinfo")
    for address in ADDRESSES[:2]:
        await rows(world.api, f"update identity_providers set {column} = $2 where id = $1", world.id, address)
        browser = world.browser()
        if column == "auth_url":
            assert error_of(await browser.client.get(f"{browser.path}/start")) == ("URL_NOT_ALLOWED", 422)
        else:
            assert error_of(await browser.login()) == ("URL_NOT_ALLOWED", 422)


@pytest.mark.parametrize("address", ADDRESSES)
async def test_an_address_is_checked_when_it_is_written(world: World, address: str) -> None:
    for field in ("issuer", "auth_url", "token_url", "jwks_url", "userinfo_url"):
        body = described(world.idp, **{field: address})
        answer = await world.admin.post("/v1/admin/identity/providers", json=body)
        assert error_of(answer) == ("URL_NOT_ALLOWED", 422), (field, answer.text)
        assert answer.json()["error"]["details"] == {"field": f"body.{field}"}
        assert error_of(await world.admin.patch(f"/v1/admin/identity/providers/{world.id}", json={field: address})) == (
            "URL_NOT_ALLOWED",
            422,
        )


async def test_keys_may_change_between_two_logins(world: World) -> None:
    await world.browser().session()
    world.idp.key, world.idp.published = rsa("new"), [rsa("new").as_dict(private=False)]
    await world.browser().session()
    assert world.idp.asked("/keys") == 2


async def test_new_keys_are_fetched_once_for_all_who_wait(world: World) -> None:
    await world.browser().session()
    world.idp.key, world.idp.published = rsa("new"), [rsa("new").as_dict(private=False)]
    before = world.idp.asked("/keys")

    async def when_all_wait(request: web.Request) -> web.StreamResponse:
        async with asyncio.timeout(10):
            while world.idp.asked("/token") < 11:
                await asyncio.sleep(0.01)
        return web.json_response({"keys": world.idp.published})

    world.idp.answers["/keys"] = when_all_wait
    answers = await asyncio.gather(*(world.browser().login(f"sub-{number}") for number in range(10)))
    assert [answer.status_code for answer in answers] == [200] * 10
    assert world.idp.asked("/keys") == before + 1


async def test_unknown_keys_make_us_ask_once_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.browser().session()
    for number in range(20):
        world.idp.header["kid"] = f"made-up-{number}"
        assert error_of(await world.browser().login()) == INVALID
    assert world.idp.asked("/keys") == 2
    world.idp.header.clear()
    await world.browser().session()
    monkeypatch.setattr(keysets, "ASK_AGAIN_S", 0)
    world.idp.key, world.idp.published = rsa("new"), [rsa("new").as_dict(private=False)]
    await world.browser().session()
    assert world.idp.asked("/keys") == 3


async def test_a_flood_at_one_provider_leaves_the_others_alone(world: World, api: Api) -> None:
    await world.browser().session()
    async with openid_provider() as flooding:
        other = await made(world.admin, described(flooding))
        flooding.header["kid"] = "made-up"
        flooded = world.browser(other["id"])
        flooded.idp = flooding
        for _ in range(3):
            assert error_of(await flooded.login()) == INVALID
    world.idp.key, world.idp.published = rsa("new"), [rsa("new").as_dict(private=False)]
    await world.browser().session()


async def test_keys_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await world.browser().session()
    assert world.idp.asked("/keys") == 1
    monkeypatch.setattr(keysets, "_KEPT_S", 0)
    await world.browser().session()
    assert world.idp.asked("/keys") == 2


async def test_a_set_with_strange_keys_serves_for_the_good_one(world: World) -> None:
    strange: list[Any] = [{"kty": "OKP", "crv": "Ed25519", "x": b64(b"0" * 32), "kid": "okp"}, {"kid": "rsa", "kty": "oct", "k": "AAAA"}, 5]
    world.idp.published = [*strange, *world.idp.published]
    await world.browser().session()
