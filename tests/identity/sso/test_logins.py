"""A login from its beginning to its session: bound to one browser, used once, leading back to named hosts alone."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from authlib.oauth2.client import DEFAULT_HEADERS

from nexusrag.infra.redis import Redis
from nexusrag.kernel import clock
from nexusrag.kernel.tokens import is_well_formed, keyed_hash, kind_of
from nexusrag.settings import SettingsError
from tests.identity.sso.world import EXCHANGE, MISSING, PROVIDERS, SSO, STATE, World, described, fragment, keep_secret, made, query
from tests.support.api import Api, error_of
from tests.support.behind import audited, count, rows
from tests.support.installation import Servers, http, serving
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIDProvider, answering, rsa
from tests.support.processes import redis_proxy
from tests.support.soon import soon

SESSIONS = "select * from auth_sessions where tenant_id = $1 order by created_at"


def state_key(state: str) -> str:
    return f"nexusrag:sso:{hashlib.sha256(state.encode()).hexdigest()}"


def redis_of(world: World) -> Any:
    return world.api.resources.get(Redis).client


async def test_a_login_ends_in_a_session(world: World) -> None:
    world.idp.claims.update(email="ada@example.com", email_verified=True, name="Ada")
    session = await world.browser().session("ada")
    token = session.pop("session_token")
    assert kind_of(token) == "sess"
    assert is_well_formed(token)
    life = clock.parse(session.pop("expires_at")) - clock.now()
    assert timedelta(hours=7, minutes=59) < life <= timedelta(hours=8)
    assert session == {"tenant_id": world.admin.tenant, "provider_id": world.id, "user_id": session["user_id"], "role": "reader"}
    me = (await world.me(token)).json()["data"]
    assert (me["id"], me["email"], me["display_name"], me["credential"]) == (session["user_id"], "ada@example.com", "Ada", "session")
    (row,) = await rows(world.api, SESSIONS, world.admin.tenant)
    pepper = world.api.servers.settings.auth.auth_key_pepper.get_secret_value()
    assert (row["kind"], row["provider_id"], row["hash"]) == ("sso", world.id, keyed_hash(token, pepper))
    (event,) = await audited(world.api, world.admin.tenant, "identity.sso.login.success")
    assert (event["actor_type"], event["actor_id"], event["resource_id"]) == ("user", session["user_id"], world.id)
    assert token not in str(await rows(world.api, "select * from audit_events where tenant_id = $1", world.admin.tenant))


async def test_the_provider_is_asked_with_proof_and_without_secrets_in_the_open(world: World) -> None:
    await world.change(scopes_json=["groups", "openid"])
    url = await world.browser().begin()
    asked = query(url)
    assert url.startswith(f"{world.idp.url}/authorize?")
    assert (asked["scope"], asked["code_challenge_method"], asked["client_id"]) == ("openid groups", "S256", CLIENT_ID)
    assert asked["redirect_uri"] == f"{world.api.base_url}{SSO}/oidc/{world.id}/callback"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert CLIENT_SECRET not in url
    await world.browser().session()
    assert "Authorization" not in DEFAULT_HEADERS, "the library would keep the secret of one request for all to come"
    again = query(await world.browser().begin())
    assert not {asked[name] for name in ("state", "nonce", "code_challenge")} & {
        again[name] for name in ("state", "nonce", "code_challenge")
    }


async def test_an_address_with_parameters_of_its_own_keeps_them(world: World) -> None:
    await world.change(auth_url=f"{world.idp.url}/authorize?p=b2c_policy")
    assert query(await world.browser().begin())["p"] == "b2c_policy"


async def test_the_cookie_is_out_of_reach_of_pages(world: World) -> None:
    browser = world.browser()
    answer = await browser.client.get(f"{browser.path}/start")
    name, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith("nrag_sso=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/v1/auth/sso", "Max-Age=600"} == set(attributes)
    assert answer.headers["Cache-Control"] == "no-store"
    value = name.partition("=")[2]
    state = query(answer.json()["data"]["authorize_url"])["state"]
    kept = await redis_of(world).get(state_key(state))
    assert value.encode() not in kept
    assert state.encode() not in kept
    assert 590 < await redis_of(world).ttl(state_key(state)) <= 600


async def test_two_windows_of_one_browser_both_log_in(world: World) -> None:
    browser = world.browser()
    one, two = await browser.begin(), await browser.begin()
    for url in (one, two):
        assert (await browser.back(*world.idp.code_for(url))).status_code == 200


async def test_a_redirect_goes_there_and_back(world: World) -> None:
    browser = world.browser()
    page = "http://localhost:3000/welcome?tab=1"
    answer = await browser.client.get(f"{browser.path}/start", params={"response_mode": "redirect", "return_to": page})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(f"{world.idp.url}/authorize?")
    back = await browser.back(*world.idp.code_for(answer.headers["Location"]))
    place, carried = fragment(back)
    assert place == page
    assert set(carried) == {"session_token", "expires_at"}
    assert (await world.me(carried["session_token"])).status_code == 200
    assert (back.headers["Cache-Control"], back.headers["Referrer-Policy"], back.content) == ("no-store", "no-referrer", b"")


async def test_a_session_is_not_carried_on_to_a_provider_of_another_tenant(world: World, api: Api) -> None:
    """Browsers carry a fragment on to wherever a redirect without one leads, and any tenant says where its own logins lead."""
    stranger = await api.person()
    theirs = await made(stranger, described(world.idp))
    browser = world.browser()
    onward = f"{api.base_url}{SSO}/oidc/{theirs['id']}/start?response_mode=redirect"
    place, carried = fragment(await browser.login(return_to=onward))
    assert (place, "session_token" in carried) == (onward, True)
    arrived = await browser.client.get(f"{place}#session_token={carried['session_token']}", follow_redirects=True)
    assert str(arrived.url).startswith(f"{world.idp.url}/authorize?")
    assert "session_token" not in str(arrived.url)


async def test_a_refusal_goes_back_as_well(world: World) -> None:
    browser = world.browser()
    code, state = world.idp.code_for(await browser.begin(return_to="http://localhost:3000/"))
    world.idp.claims["aud"] = "other"
    assert fragment(await browser.back(code, state)) == ("http://localhost:3000/", {"error": "SSO_ID_TOKEN_INVALID"})


@pytest.mark.parametrize("hosts", ["https://app.example.com", "app.example.com:8443", "*", "*.example.com", "app.example.com/", "a b"])
def test_hosts_are_named_by_themselves(servers: Servers, hosts: str) -> None:
    with pytest.raises(SettingsError, match="SSO_ALLOWED_REDIRECT_HOSTS"):
        servers.with_env(SSO_ALLOWED_REDIRECT_HOSTS=hosts)


PLACES = [
    "https://evil.example/", "https://app.example.com.evil.example/", "https://evil.example@app.example.com/", "//app.example.com/",
    "https://app.example.com@evil.example/", "https:\\\\app.example.com/", "https://evil.example\\@app.example.com/", "/inside", "",
    "javascript:alert(1)", "data:text/html,x", "https://app.example.com/#x", "https://app.example.com./", "ftp://app.example.com/",
    "https://app.example.com:99999999/", "https://app.example.com/\r\nSet-Cookie: a=b", "https://app.еxample.com/", "https:app.example.com",
    "https://app.example.com%2eevil.example/", "https://sub.app.example.com/", "https://app.example.com /", "http://169.254.169.254/",
    "https://[::2]/", "https:///app.example.com/", "https://app.example.com/" + "x" * 2048,
]  # fmt: skip


@pytest.fixture(scope="module")
async def named(servers: Servers) -> AsyncIterator[Api]:
    """An API that lets logins return to app.example.com."""
    async with serving(servers.with_env(SSO_ALLOWED_REDIRECT_HOSTS="app.example.com, Admin.Example.com")) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


@pytest.fixture
async def named_world(named: Api, idp: OpenIDProvider) -> AsyncIterator[World]:
    admin = await named.person()
    world = World(named, admin, idp, await made(admin, described(idp, keep_secret(named, admin.tenant))))
    yield world
    await world.close()


async def test_a_login_returns_to_named_hosts_alone(named_world: World) -> None:
    browser = named_world.browser()
    for place in PLACES:
        answer = await browser.client.get(f"{browser.path}/start", params={"return_to": place})
        assert error_of(answer) == ("BAD_REQUEST", 400), place
        assert "Set-Cookie" not in answer.headers
    for place in ("https://app.example.com", "https://app.example.com/a?b=c", "https://ADMIN.example.com:8443/", "http://127.0.0.1:1/"):
        assert fragment(await browser.login(return_to=place))[0] == place


async def test_the_callback_is_on_a_named_host(named_world: World) -> None:
    browser = named_world.browser()
    for host in ("evil.example", "app.example.com.evil.example", "169.254.169.254"):
        assert error_of(await browser.client.get(f"{browser.path}/start", headers={"Host": host})) == ("BAD_REQUEST", 400), host
    answer = await browser.client.get(f"{browser.path}/start", headers={"Host": "app.example.com:8000"})
    asked = query(answer.json()["data"]["authorize_url"])
    assert asked["redirect_uri"] == f"http://app.example.com:8000{SSO}/oidc/{named_world.id}/callback"


async def test_a_state_is_used_once(world: World) -> None:
    browser = world.browser()
    url = await browser.begin()
    code, state = world.idp.code_for(url)
    answers = await asyncio.gather(*(browser.back(code, state) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 49
    again, _ = world.idp.code_for(url)
    assert error_of(await browser.back(again, state)) == STATE
    assert len(await rows(world.api, SESSIONS, world.admin.tenant)) == 1


async def test_a_code_is_used_once(world: World) -> None:
    """The provider sees to it; a state of one's own does not help."""
    browser = world.browser()
    code, state = world.idp.code_for(await browser.begin())
    assert (await browser.back(code, state)).status_code == 200
    _, other = world.idp.code_for(await browser.begin())
    assert error_of(await browser.back(code, other)) == EXCHANGE
    mine = world.browser()
    stolen, _ = world.idp.code_for(await browser.begin())
    _, own = world.idp.code_for(await mine.begin())
    assert error_of(await mine.back(stolen, own)) == EXCHANGE, "PKCE binds a code to the login it is for"


async def test_a_login_is_completed_by_the_browser_that_began_it(world: World) -> None:
    mine, theirs = world.browser(), world.browser()
    await theirs.begin()
    for other in (theirs, world.browser()):
        code, state = world.idp.code_for(await mine.begin())
        assert error_of(await other.back(code, state)) == STATE
        assert error_of(await mine.back(code, state)) == STATE, "whoever tried has used it up"


@pytest.mark.parametrize("state", [None, "", "made-up", "x" * 4096, "a\u0000b", "🦊"])
async def test_a_state_that_is_not_ours_is_refused(world: World, state: str | None) -> None:
    browser = world.browser()
    code, _ = world.idp.code_for(await browser.begin())
    refused = error_of(await browser.back(code, state))
    assert refused == STATE or (state == "a\u0000b" and refused == ("BAD_REQUEST", 400))


async def test_a_state_is_over_after_its_time(world: World) -> None:
    browser = world.browser()
    code, state = world.idp.code_for(await browser.begin())
    await redis_of(world).pexpire(state_key(state), 1)
    await soon(lambda: redis_of(world).exists(state_key(state)), 0)
    assert error_of(await browser.back(code, state)) == STATE


async def test_a_nonce_is_over_after_its_time(world: World) -> None:
    browser = world.browser()
    code, state = world.idp.code_for(await browser.begin())
    kept = orjson.loads(await redis_of(world).get(state_key(state)))
    assert 590 < kept["nonce_until"] - clock.now().timestamp() <= 600
    await redis_of(world).set(state_key(state), orjson.dumps({**kept, "nonce_until": clock.now().timestamp() - 1}))
    assert error_of(await browser.back(code, state)) == ("SSO_ID_TOKEN_INVALID", 401)


async def test_the_answer_of_one_provider_is_not_taken_for_another(world: World) -> None:
    other = await made(world.admin, described(world.idp))
    await rows(world.api, "update identity_providers set updated_at = now() where tenant_id = $1", world.admin.tenant)  # alike in all else
    browser = world.browser()
    code, state = world.idp.code_for(await browser.begin())
    elsewhere = world.browser(other["id"])
    elsewhere.client.cookies = browser.client.cookies
    assert error_of(await elsewhere.back(code, state)) == STATE
    for issuer in ("https://evil.example", f"{world.idp.url}/", ""):
        code, state = world.idp.code_for(await browser.begin())
        assert error_of(await browser.back(code, state, iss=issuer)) == STATE
    code, state = world.idp.code_for(await browser.begin())
    assert (await browser.back(code, state, iss=world.idp.url)).status_code == 200


async def test_a_parameter_that_comes_twice_is_refused(world: World) -> None:
    browser = world.browser()
    for name in ("code", "state", "iss", "error"):
        code, state = world.idp.code_for(await browser.begin())
        params = [("code", code), ("state", state), (name, "x"), (name, "y")]
        answer = await browser.client.get(f"{browser.path}/callback", params=params)
        assert error_of(answer) == STATE


@pytest.mark.usefixtures("every_failure")
async def test_an_error_of_the_provider_is_not_repeated(world: World) -> None:
    browser = world.browser()
    for params in ({"error": "<script>alert(1)</script>", "error_description": "<b>"}, {"error": "access_denied"}, {}):
        _, state = world.idp.code_for(await browser.begin())
        answer = await browser.back(None, state, **params)
        assert error_of(answer) == EXCHANGE
        assert answer.headers["Content-Type"] == "application/json"
        assert "alert" not in answer.text
    events = await audited(world.api, world.admin.tenant, "identity.sso.login.failure")
    assert len(events) == 3
    assert "alert" not in str(events)


async def test_a_code_that_is_too_long_goes_nowhere(world: World) -> None:
    browser = world.browser()
    _, state = world.idp.code_for(await browser.begin())
    assert error_of(await browser.back("x" * 5000, state)) == ("VALIDATION_ERROR", 422)
    assert world.idp.asked("/token") == 0


async def test_a_provider_that_is_switched_off_or_changed_meanwhile_ends_the_login(world: World) -> None:
    browser = world.browser()
    code, state = world.idp.code_for(await browser.begin())
    await world.admin.post(f"{PROVIDERS}/{world.id}/disable")
    assert error_of(await browser.back(code, state)) == MISSING
    await world.admin.post(f"{PROVIDERS}/{world.id}/enable")
    assert error_of(await browser.back(code, state)) == STATE
    code, state = world.idp.code_for(await browser.begin())
    await world.change(client_id="other")
    assert error_of(await browser.back(code, state)) == STATE


@pytest.mark.parametrize("change", ["switched off", "changed"])
async def test_a_provider_that_is_switched_off_or_changed_while_it_is_asked_ends_the_login(world: World, change: str) -> None:
    async def meanwhile(request: Any) -> Any:
        if change == "changed":
            await world.change(jit_enabled=False)
        else:
            await world.admin.post(f"{PROVIDERS}/{world.id}/disable")
        return await answering(orjson.dumps({"keys": [rsa().as_dict(private=False)]}))(request)

    world.idp.answers["/keys"] = meanwhile
    assert error_of(await world.browser().login()) == (STATE if change == "changed" else MISSING)
    assert await rows(world.api, SESSIONS, world.admin.tenant) == []


async def test_an_unknown_provider_is_not_found(world: World) -> None:
    for path in ("start", "callback"):
        for provider_id in ("idp_made_up", world.id.upper(), "'; drop table users; --"):
            assert error_of(await world.api.anonymous().get(f"{SSO}/oidc/{provider_id}/{path}?state=x&code=y")) == MISSING


async def test_a_secret_that_is_nowhere_ends_the_login(world: World) -> None:
    for ref in ("file:missing", "ELSEWHERE_CLIENT_SECRET"):
        await world.admin.post(f"{PROVIDERS}/{world.id}/rotate-secret-ref", json={"client_secret_ref": ref})
        assert error_of(await world.browser().login()) == EXCHANGE
    assert world.idp.asked("/token") == 0


async def test_each_login_is_another_session_and_ends_by_itself(world: World) -> None:
    browser = world.browser()
    first, second = await browser.session(), await browser.session()
    assert first["user_id"] == second["user_id"]
    assert first["session_token"] != second["session_token"]
    async with http(world.api.base_url, first["session_token"]) as client:
        assert (await client.post("/v1/auth/logout")).status_code == 204
    assert error_of(await world.me(first["session_token"])) == ("AUTH_REVOKED_KEY", 401)
    assert (await world.me(second["session_token"])).status_code == 200
    await rows(
        world.api,
        "with ended as (update auth_sessions set expires_at = now() where tenant_id = $1 returning id) "
        "select pg_notify('nexusrag_changes', 'credential ' || id) from ended",
        world.admin.tenant,
    )

    async def refused() -> Any:
        answer = await world.me(second["session_token"])
        return answer.status_code if answer.status_code == 200 else error_of(answer)

    await soon(refused, ("AUTH_EXPIRED_KEY", 401))


async def test_a_made_up_flood_does_not_fill_the_log(world: World) -> None:
    browser = world.browser()
    answers = await asyncio.gather(*(browser.back("code", f"state-{number}") for number in range(100)))
    assert {error_of(answer) for answer in answers} == {STATE}
    written = await count(
        world.api,
        "select count(*) from audit_events where tenant_id = $1 and event_type = 'identity.sso.login.failure'",
        world.admin.tenant,
    )
    assert 1 <= written < 60, written


@pytest.mark.slow
async def test_nobody_logs_in_without_redis(servers: Servers, idp: OpenIDProvider) -> None:
    async with redis_proxy(servers) as (proxy, redis_url), serving(servers.with_env(REDIS_URL=redis_url)) as (app, url):
        api = Api(servers, app, url)
        admin = await api.person()
        world = World(api, admin, idp, await made(admin, described(idp, keep_secret(api, admin.tenant))))
        browser = world.browser()
        code, state = idp.code_for(await browser.begin())
        proxy.refusing = True
        proxy.cut()
        for answer in (await browser.client.get(f"{browser.path}/start"), await browser.back(code, state)):
            assert error_of(answer) == ("SERVICE_UNAVAILABLE", 503)
            assert answer.headers["Retry-After"] == "1"
            assert "Set-Cookie" not in answer.headers
        assert idp.asked("/token") == 0
        proxy.refusing = False
        assert (await browser.back(code, state)).status_code == 200
        await world.close()
        await api.close()
