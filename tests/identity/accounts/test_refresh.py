"""Refresh tokens: each is good for once, and whoever brings a used one ends the login."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.identity.accounts.people import Account, account, invitation, new_address, register
from tests.support.api import Api, error_of
from tests.support.behind import audited, rows
from tests.support.installation import Servers, http, serving

ENDED = ("AUTH_REVOKED_KEY", 401)


async def test_a_refresh_token_gives_the_next_pair(api: Api) -> None:
    somebody = await account(api)
    before = somebody.tokens
    answer = await somebody.refresh()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    after: dict[str, Any] = answer.json()["data"]
    assert after.keys() == before.keys()
    assert after["session_id"] == before["session_id"]
    assert after["user"] == before["user"]
    assert after["refresh_token"] != before["refresh_token"]
    device = Account(api, somebody.email, after)
    assert (await device.get("/v1/corpora")).status_code == 200
    assert (await device.refresh()).status_code == 200


async def test_a_login_lives_for_as_long_as_it_is_refreshed(api: Api) -> None:
    somebody = await account(api)
    await rows(api, "update auth_sessions set expires_at = now() + interval '1 minute' where tenant_id = $1", somebody.tenant)
    await somebody.refresh()
    (session,) = await rows(
        api, "select expires_at - now() > interval '29 days' as far from auth_sessions where tenant_id = $1", somebody.tenant
    )
    assert session["far"]


async def test_a_token_that_comes_again_ends_the_login_and_all_that_came_from_it(api: Api) -> None:
    somebody = await account(api)
    device = await somebody.login()
    newest = Account(api, somebody.email, (await somebody.refresh()).json()["data"])
    newest = Account(api, somebody.email, (await newest.refresh()).json()["data"])
    assert error_of(await somebody.refresh()) == ENDED
    assert error_of(await newest.refresh()) == ENDED
    assert error_of(await newest.get("/v1/corpora")) == ENDED
    assert error_of(await somebody.refresh()) == ENDED
    assert (await device.get("/v1/corpora")).status_code == 200, "another login is not concerned"
    (event,) = await audited(api, somebody.tenant, "auth.refresh.replayed")
    assert (event["outcome"], event["actor_type"], event["actor_id"]) == ("failure", "user", somebody.user_id)
    assert somebody.tokens["session_id"] in event["metadata"]


async def test_of_many_at_once_one_wins_and_the_login_is_over(api: Api) -> None:
    """A thief and the owner cannot be told apart; there is no grace for either."""
    somebody = await account(api)
    answers = await asyncio.gather(*(somebody.refresh() for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 19}
    (won,) = [answer.json()["data"] for answer in answers if answer.status_code == 200]
    winner = Account(api, somebody.email, won)
    assert error_of(await winner.refresh()) == ENDED
    assert error_of(await winner.get("/v1/corpora")) == ENDED
    assert len(await audited(api, somebody.tenant, "auth.refresh.replayed")) == 1


async def test_what_is_no_refresh_token_is_refused_in_the_same_words(api: Api) -> None:
    somebody, admin = await account(api), await api.person()
    token = somebody.tokens["refresh_token"]
    invited = (await invitation(admin, new_address()))["token"]
    wrong = [token[:-1] + ("a" if token[-1] != "a" else "b"), token.upper(), somebody.tokens["access_token"][:120], admin.key, invited, "x"]
    answers = [await somebody.refresh(one) for one in wrong]
    assert {error_of(answer) for answer in answers} == {("AUTH_UNAUTHORIZED", 401)}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1
    assert (await somebody.refresh()).status_code == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("update refresh_tokens set expires_at = now() where tenant_id = $1", "AUTH_EXPIRED_KEY"),
        ("update auth_sessions set expires_at = now() where tenant_id = $1", "AUTH_EXPIRED_KEY"),
        ("update auth_sessions set revoked_at = now() where tenant_id = $1", "AUTH_REVOKED_KEY"),
        ("update users set status = 'disabled' where tenant_id = $1", "AUTH_UNAUTHORIZED"),
        ("update tenants set status = 'suspended' where id = $1", "AUTH_UNAUTHORIZED"),
        ("update refresh_tokens set hash = sha256('') where tenant_id = $1", "AUTH_UNAUTHORIZED"),
    ],
)
async def test_a_refresh_token_is_worth_what_its_login_is(api: Api, change: str, code: str) -> None:
    somebody = await account(api)
    await rows(api, change, somebody.tenant)
    assert error_of(await somebody.refresh()) == (code, 401)
    assert len(await rows(api, "select 1 from refresh_tokens where tenant_id = $1", somebody.tenant)) == 1


@pytest.mark.slow
async def test_tokens_outlive_a_change_of_the_pepper(api: Api, servers: Servers) -> None:
    admin, email = await api.person(), new_address()
    somebody, invited = await account(api, admin=admin), await invitation(admin, email)
    settings = servers.settings.auth
    env = {"AUTH_KEY_PEPPER": "p" * 32, "AUTH_KEY_PEPPER_PREVIOUS": settings.auth_key_pepper.get_secret_value()}
    async with serving(servers.with_env(**env)) as (_, base_url), http(base_url) as client:
        answer = await client.post("/v1/auth/refresh", json={"refresh_token": somebody.tokens["refresh_token"]})
        assert answer.status_code == 200
        answer = await client.post("/v1/auth/refresh", json={"refresh_token": answer.json()["data"]["refresh_token"]})
        assert answer.status_code == 200
        assert (await register(client, email, invited["token"])).status_code == 201


async def test_a_refresh_token_opens_nothing_else(api: Api) -> None:
    somebody = await account(api)
    answer = await somebody.client.get("/v1/corpora", headers={"Authorization": f"Bearer {somebody.tokens['refresh_token']}"})
    assert error_of(answer) == ("AUTH_UNAUTHORIZED", 401)


async def test_the_table_holds_keyed_hashes_alone(api: Api) -> None:
    somebody = await account(api)
    table = str(await rows(api, "select * from refresh_tokens where tenant_id = $1", somebody.tenant))
    assert somebody.tokens["refresh_token"].rsplit("_", 1)[1] not in table
