"""One's own logins: which there are, ending them, and a new password that ends the others."""

from typing import Any

import pytest

from nexusrag.infra.changes import Changes
from tests.identity.accounts.people import PASSWORD, Account, account, login
from tests.support.api import Api, error_of
from tests.support.behind import audited, rows
from tests.support.processes import until

NEW = "staple battery horse"
ENDED = ("AUTH_REVOKED_KEY", 401)


async def ended(device: Account) -> None:
    async def refused() -> bool:
        answer = await device.get("/v1/corpora")
        return answer.status_code == 401 and error_of(answer) == ENDED

    assert device.api.resources.get(Changes).live
    await until(refused, within_s=5)
    assert error_of(await device.refresh()) == ENDED


async def listed(device: Account) -> list[dict[str, Any]]:
    answer = await device.get("/v1/auth/sessions")
    assert answer.status_code == 200, answer.text
    sessions: list[dict[str, Any]] = answer.json()["data"]
    return sessions


async def test_a_person_sees_their_own_logins_that_are_good(api: Api) -> None:
    admin = await api.person()
    somebody, other = await account(api, admin=admin), await account(api, admin=admin)
    somebody.client.headers["User-Agent"] = "phone/1"
    phone, gone = await somebody.login(), await somebody.login()
    await rows(api, "update auth_sessions set expires_at = now() where id = $1", gone.tokens["session_id"])
    sessions = await listed(somebody)
    assert [session["id"] for session in sessions] == [phone.tokens["session_id"], somebody.tokens["session_id"]]
    assert [session["current"] for session in sessions] == [False, True]
    assert (sessions[0]["kind"], sessions[0]["user_agent"], sessions[0]["ip_address"]) == ("password", "phone/1", "127.0.0.1")
    assert [session["id"] for session in await listed(other)] == [other.tokens["session_id"]]


async def test_ending_one_of_ones_own_logins(api: Api) -> None:
    somebody = await account(api)
    device = await somebody.login()
    path = f"/v1/auth/sessions/{device.tokens['session_id']}"
    for _ in range(2):  # what has ended stays so
        assert (await somebody.delete(path)).status_code == 204
    await ended(device)
    assert (await somebody.get("/v1/corpora")).status_code == 200
    event = (await audited(api, somebody.tenant, "auth.logout"))[0]
    assert (event["resource_type"], event["resource_id"]) == ("auth_session", device.tokens["session_id"])


async def test_somebody_elses_login_is_not_found(api: Api) -> None:
    admin = await api.person()
    somebody, colleague, stranger = await account(api, admin=admin), await account(api, "admin", admin=admin), await account(api, "admin")
    path = f"/v1/auth/sessions/{somebody.tokens['session_id']}"
    for other in (colleague, stranger):
        assert error_of(await other.delete(path)) == ("NOT_FOUND", 404)
    assert (await somebody.get("/v1/corpora")).status_code == 200


async def test_logging_out_ends_the_login_of_the_request(api: Api) -> None:
    somebody = await account(api)
    device = await somebody.login()
    assert (await device.post("/v1/auth/logout")).status_code == 204
    await ended(device)
    assert (await somebody.get("/v1/corpora")).status_code == 200
    (event,) = await audited(api, somebody.tenant, "auth.logout")
    assert (event["actor_type"], event["actor_id"]) == ("user", somebody.user_id)


async def test_a_key_has_no_login_to_end_and_no_password_to_change(api: Api) -> None:
    person = await api.person()
    body = {"current_password": PASSWORD, "new_password": NEW}
    for answer in (await person.post("/v1/auth/logout"), await person.post("/v1/auth/password", json=body)):
        assert error_of(answer) == ("AUTH_UNAUTHORIZED", 401)
    me = (await person.get("/v1/auth/me")).json()["data"]
    assert (me["credential"], me["credential_id"], me["role"], me["email"]) == ("api_key", person.key_id, "admin", None)


async def change(device: Account, current: str, new: str) -> Any:
    return await device.post("/v1/auth/password", json={"current_password": current, "new_password": new})


async def test_a_new_password_ends_the_other_logins_and_leaves_the_keys(api: Api) -> None:
    admin = await api.person()
    somebody, colleague = await account(api, admin=admin), await account(api, admin=admin)
    device = await somebody.login()
    assert (await device.get("/v1/corpora")).status_code == 200
    assert (await change(somebody, PASSWORD, NEW)).status_code == 204
    await ended(device)
    for good in (
        await somebody.get("/v1/corpora"),
        await somebody.refresh(),
        await colleague.get("/v1/corpora"),
        await admin.get("/v1/corpora"),
    ):
        assert good.status_code == 200
    assert error_of(await login(somebody.client, somebody.email)) == ("AUTH_UNAUTHORIZED", 401)
    assert (await login(somebody.client, somebody.email, NEW)).status_code == 200
    (event,) = await audited(api, somebody.tenant, "auth.password.changed")
    assert (event["outcome"], event["actor_id"], '"sessions_ended": 1' in event["metadata"]) == ("success", somebody.user_id, True)


async def test_the_old_password_is_needed_and_guessing_it_is_slow(api: Api) -> None:
    somebody = await account(api)
    for number in range(5):
        assert error_of(await change(somebody, f"guess number {number}", NEW)) == ("AUTH_FORBIDDEN", 403)
    assert error_of(await change(somebody, PASSWORD, NEW)) == ("RATE_LIMITED", 429)
    assert error_of(await login(somebody.client, somebody.email)) == ("RATE_LIMITED", 429), "one count for both"
    assert (await somebody.get("/v1/corpora")).status_code == 200
    events = await audited(api, somebody.tenant, "auth.password.changed")
    assert {event["outcome"] for event in events} == {"failure"}


@pytest.mark.parametrize("new", ["too short", "x" * 1025])
async def test_a_new_password_is_held_to_the_same_rules(api: Api, new: str) -> None:
    somebody = await account(api)
    assert error_of(await change(somebody, PASSWORD, new)) == ("VALIDATION_ERROR", 422)
    assert error_of(await change(somebody, PASSWORD, somebody.email)) == ("VALIDATION_ERROR", 422)


async def test_an_account_without_a_password_has_none_to_change(api: Api) -> None:
    somebody = await account(api)
    await rows(api, "update users set password_hash = null where tenant_id = $1", somebody.tenant)
    assert error_of(await change(somebody, PASSWORD, NEW)) == ("CONFLICT", 409)


async def test_whose_address_was_taken_away_can_still_change_the_password(api: Api) -> None:
    somebody = await account(api)
    await rows(api, "update users set email = null where tenant_id = $1 and id = $2", somebody.tenant, somebody.user_id)
    assert (await change(somebody, PASSWORD, NEW)).status_code == 204
