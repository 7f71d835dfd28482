"""Logging in: one answer to everything that is wrong, and no profit from guessing."""

import asyncio
from time import perf_counter
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from nexusrag.identity.accounts import throttle
from nexusrag.identity.accounts.passwords import Passwords
from nexusrag.identity.accounts.service import login as login_service
from tests.identity.accounts.people import PASSWORD, Account, account, calling_from, login, new_address
from tests.support.api import Api, error_of
from tests.support.behind import audited, count, rows

WRONG = ("AUTH_UNAUTHORIZED", 401)


async def test_a_login_gives_tokens_that_work(api: Api) -> None:
    somebody = await account(api, "editor")
    answer = await login(somebody.client, f" {somebody.email.upper()} ")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    device = Account(api, somebody.email, answer.json()["data"])
    assert device.user_id == somebody.user_id
    assert device.tokens["session_id"] != somebody.tokens["session_id"]
    assert (await device.get("/v1/corpora")).status_code == 200
    assert (await device.post("/v1/corpora", json={"name": "x"})).status_code == 201
    assert error_of(await device.get("/v1/ops/health")) == ("AUTH_FORBIDDEN", 403)
    (event,) = await audited(api, somebody.tenant, "auth.login.success")
    assert (event["actor_type"], event["actor_id"], event["outcome"]) == ("user", somebody.user_id, "success")


@pytest.mark.parametrize(
    "change",
    [
        None,
        "update users set status = 'disabled' where tenant_id = $1",
        "update users set deleted_at = now() where tenant_id = $1",
        "update users set password_hash = null where tenant_id = $1",
        "update users set password_hash = 'nonsense' where tenant_id = $1",
        "update tenants set status = 'suspended' where id = $1",
    ],
)
async def test_everything_that_is_wrong_gets_the_same_answer(api: Api, change: str | None) -> None:
    somebody = await account(api)
    headers = {"X-Request-Id": "same"}
    somebody.client.headers.update(headers)
    if change is None:
        answers = [await login(somebody.client, somebody.email, PASSWORD + "?")]
        answers += [await login(somebody.client, somebody.email, tenant_id=tenant) for tenant in ("nowhere", "t1:*", "")]
    else:
        await rows(api, change, somebody.tenant)
        answers = [await login(somebody.client, somebody.email), await login(somebody.client, somebody.email, tenant_id=somebody.tenant)]
    answers.append(await login(somebody.client, new_address()))
    assert {error_of(answer) for answer in answers} == {WRONG}
    assert len({answer.content for answer in answers}) == 1


@pytest.mark.slow
async def test_an_unknown_address_takes_as_long_as_a_wrong_password(api: Api) -> None:
    """Without the work for nobody it would take a tenth."""
    somebody = await account(api)
    await login(somebody.client, new_address(), "whatever it is")
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    for _ in range(5):
        for kind, email in (("known", somebody.email), ("unknown", new_address())):
            began = perf_counter()
            assert error_of(await login(somebody.client, email, "whatever it is")) == WRONG
            took[kind].append(perf_counter() - began)
    assert 0.6 < min(took["unknown"]) / min(took["known"]) < 1.7, took  # the least is what it takes where nothing is in the way


async def test_a_wrong_password_is_on_record_in_the_tenant_of_the_account(api: Api) -> None:
    somebody = await account(api)
    async with asyncio.timeout(10):  # a flood of failures is sampled, so one may have to be repeated
        while not (found := await audited(api, somebody.tenant, "auth.login.failure")):
            await rows(api, "delete from login_attempts")
            await login(somebody.client, somebody.email, "not my password")
    assert (found[0]["outcome"], found[0]["error_code"]) == ("failure", "AUTH_UNAUTHORIZED")
    assert (found[0]["actor_type"], found[0]["actor_id"]) == ("user", somebody.user_id)


async def test_an_address_in_several_tenants_goes_where_the_password_fits(api: Api) -> None:
    email, other = new_address(), "another password"
    first, second, third = [await account(api, email=email, password=password) for password in (PASSWORD, PASSWORD, other)]
    answer = await login(api.anonymous(), email)
    assert error_of(answer) == ("CONFLICT", 409)
    assert answer.json()["error"]["details"] == {"tenants": sorted([first.tenant, second.tenant])}
    answer = await login(api.anonymous(), email, tenant_id=second.tenant)
    assert answer.json()["data"]["user"]["id"] == second.user_id
    answer = await login(api.anonymous(), email, other)
    assert answer.json()["data"]["user"]["id"] == third.user_id
    assert error_of(await login(api.anonymous(), email, other, tenant_id=first.tenant)) == WRONG
    await rows(api, "update users set status = 'disabled' where tenant_id = $1 and id = $2", first.tenant, first.user_id)
    assert (await login(api.anonymous(), email)).json()["data"]["user"]["id"] == second.user_id


async def test_a_guess_at_several_accounts_is_on_record_in_each_tenant(api: Api) -> None:
    email = new_address()
    accounts = [await account(api, email=email) for _ in range(2)]
    await login(api.anonymous(), email, "not the password")
    assert await audited(api, accounts[1].tenant, "auth.login.failure")


def key(api: Api, *parts: str) -> bytes:
    return throttle._key(api.servers.settings.auth.auth_key_pepper.get_secret_value(), *parts)


async def no_more_waiting(api: Api, somebody: Account) -> None:
    """As if the wait were over."""
    for one in (key(api, somebody.email, "127.0.0.1"), key(api, somebody.email)):
        await rows(api, "update login_attempts set blocked_until = now() where key = $1", one)


async def test_guessing_has_to_wait_longer_each_time_and_a_login_forgives(api: Api) -> None:
    somebody = await account(api)
    waits = []
    for number in range(13):
        answer = await login(somebody.client, somebody.email, f"guess number {number}")
        if number < 5:
            assert error_of(answer) == WRONG
            continue
        assert error_of(answer) == ("RATE_LIMITED", 429)
        waits.append(int(answer.headers["Retry-After"]))
        assert error_of(await login(somebody.client, somebody.email)) == ("RATE_LIMITED", 429), "the right password waits as well"
        await no_more_waiting(api, somebody)
        assert error_of(await login(somebody.client, somebody.email, f"guess number {number}")) == WRONG
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1, 60)
    await no_more_waiting(api, somebody)
    assert (await login(somebody.client, somebody.email)).status_code == 200
    assert error_of(await login(somebody.client, somebody.email, "wrong again, but free")) == WRONG
    assert (await login(somebody.client, somebody.email)).status_code == 200


async def test_guesses_at_once_are_counted_one_by_one(api: Api) -> None:
    somebody = await account(api)
    answers = await asyncio.gather(*(login(somebody.client, somebody.email, f"guess number {number}") for number in range(40)))
    assert sorted({answer.status_code for answer in answers}) == [401, 429]
    assert sum(answer.status_code == 401 for answer in answers) == 5


async def test_after_a_quarter_of_an_hour_counting_begins_anew(api: Api) -> None:
    somebody = await account(api)
    for number in range(5):
        await login(somebody.client, somebody.email, f"guess number {number}")
    long_ago = "update login_attempts set updated_at = now() - interval '16 minutes', blocked_until = now() where key = $1"
    await rows(api, long_ago, key(api, somebody.email, "127.0.0.1"))
    for _ in range(2):
        assert error_of(await login(somebody.client, somebody.email, "another guess")) == WRONG


@pytest.mark.slow
async def test_strangers_hold_up_strangers_and_not_the_owner(api: Api) -> None:
    """Guesses from many addresses make every unknown address wait, shortly; where the account was used before, nobody notices."""
    somebody = await account(api)
    statuses: list[int] = []
    for number in range(11):
        async with calling_from(api, number) as stranger:
            statuses += [(await login(stranger, somebody.email, f"guess number {number}")).status_code for _ in range(2)]
    assert statuses.count(401) <= 21
    assert statuses[-1] == 429
    async with calling_from(api, 99) as stranger:
        answer = await login(stranger, somebody.email)
        assert error_of(answer) == ("RATE_LIMITED", 429)
        assert int(answer.headers["Retry-After"]) <= 30
    assert (await login(somebody.client, somebody.email)).status_code == 200


async def test_no_address_is_kept_of_who_tried(api: Api) -> None:
    email = new_address()
    await login(api.anonymous(), email, "whatever it is")
    assert email not in str(await rows(api, "select * from login_attempts"))


async def stored(api: Api, somebody: Account) -> str:
    (row,) = await rows(api, "select password_hash from users where tenant_id = $1 and id = $2", somebody.tenant, somebody.user_id)
    return str(row["password_hash"])


async def weaken(api: Api, somebody: Account) -> str:
    """As an earlier release may have stored it."""
    weaker = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(PASSWORD)
    await rows(api, "update users set password_hash = $3 where tenant_id = $1 and id = $2", somebody.tenant, somebody.user_id, weaker)
    return weaker


async def test_a_login_renews_a_hash_with_older_parameters(api: Api) -> None:
    somebody = await account(api)
    weaker = await weaken(api, somebody)
    assert error_of(await login(somebody.client, somebody.email, PASSWORD + "?")) == WRONG
    assert await stored(api, somebody) == weaker
    assert (await login(somebody.client, somebody.email)).status_code == 200
    renewed = await stored(api, somebody)
    assert "$m=19456,t=2,p=1$" in renewed
    assert (await login(somebody.client, somebody.email)).status_code == 200
    assert await stored(api, somebody) == renewed


async def test_two_devices_log_in_while_the_hash_is_renewed(api: Api) -> None:
    somebody = await account(api)
    await weaken(api, somebody)
    answers = await asyncio.gather(*(login(somebody.client, somebody.email) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}


async def test_a_login_with_a_password_that_is_being_changed_does_not_slip_through(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody = await account(api)
    entering = login_service._enter

    async def changed_meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(login_service, "_enter", entering)
        other = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash("another password")
        await rows(api, "update users set password_hash = $3 where tenant_id = $1 and id = $2", somebody.tenant, somebody.user_id, other)
        return await entering(*arguments)

    monkeypatch.setattr(login_service, "_enter", changed_meanwhile)
    assert error_of(await login(somebody.client, somebody.email)) == WRONG
    assert len(await rows(api, "select 1 from auth_sessions where tenant_id = $1", somebody.tenant)) == 1


async def test_hashing_does_not_hold_up_other_requests(api: Api) -> None:
    person, client = await api.person(), api.anonymous()
    await person.get("/v1/corpora")
    logins = [asyncio.create_task(login(client, new_address(), "whatever it is")) for _ in range(20)]
    while not any(one.done() for one in logins):
        assert (await person.get("/v1/corpora")).status_code == 200
    assert not all(one.done() for one in logins)
    assert {answer.status_code for answer in await asyncio.gather(*logins)} == {401}


@pytest.mark.slow
async def test_too_many_at_once_are_told_to_come_back(api: Api) -> None:
    async with httpx.AsyncClient(base_url=api.base_url, limits=httpx.Limits(max_connections=200), timeout=60) as client:
        answers = await asyncio.gather(*(login(client, new_address(), "whatever it is") for _ in range(120)))
    assert {error_of(answer) for answer in answers} == {WRONG, ("SERVICE_BUSY", 503)}


async def test_a_flood_beyond_what_is_looked_at_leaves_no_rows(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.resources.get(Passwords), "_busy", 1000)
    before = await count(api, "select count(*) from login_attempts")
    assert error_of(await login(api.anonymous(), new_address())) == ("SERVICE_BUSY", 503)
    assert await count(api, "select count(*) from login_attempts") == before
