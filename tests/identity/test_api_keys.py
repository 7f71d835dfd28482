"""The life of an API key through the API: made and shown once, listed without its secret, changed, revoked."""

import asyncio
from datetime import timedelta
from typing import Any

import httpx
import pytest

from nexusrag.kernel import clock
from nexusrag.kernel.tokens import mint
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, rows
from tests.support.installation import Servers, http, serving
from tests.support.soon import soon

MINE, ALL = "/v1/self-serve/api-keys", "/v1/admin/api-keys"
LISTED = {"key_id", "key_prefix", "name", "role", "created_at", "last_used_at", "expires_at", "revoked_at", "is_active"}


async def make(person: Person, **body: Any) -> dict[str, Any]:
    answer = await person.post(MINE, json={"role": "reader", **body})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()["data"]
    return made


OK = ("", 200)


async def status(api: Api, key: str) -> tuple[str, int]:
    """What the key gets: OK, or why not."""
    async with http(api.base_url, key) as client:
        answer = await client.get("/v1/corpora")
        return OK if answer.status_code == 200 else error_of(answer)


async def listed(person: Person, key_id: str) -> dict[str, Any]:
    (one,) = [item for item in (await person.get(ALL)).json()["data"]["items"] if item["key_id"] == key_id]
    found: dict[str, Any] = one
    return found


async def test_a_new_key_works_and_is_shown_once(api: Api) -> None:
    admin = await api.person()
    answer = await admin.post(MINE, json={"name": "ci-bot", "role": "editor", "expires_in_days": 30})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    made = answer.json()["data"]
    assert LISTED | {"api_key"} <= made.keys()
    assert (made["name"], made["role"], made["user_id"], made["is_active"]) == ("ci-bot", "editor", admin.user_id, True)
    assert made["api_key"].startswith(made["key_prefix"])
    async with http(api.base_url, made["api_key"]) as client:
        assert (await client.post("/v1/corpora", json={"name": "x"})).status_code == 201
        assert error_of(await client.get("/v1/ops/health")) == ("AUTH_FORBIDDEN", 403)
    answers = [await admin.get(MINE), await admin.get(ALL), await admin.get(f"{MINE}/inactive-report")]
    (row,) = await rows(api, "select encode(hash, 'hex') as hash from api_keys where id = $1", made["key_id"])
    for answer in answers:
        assert answer.status_code == 200
        assert made["api_key"] not in answer.text
        assert row["hash"] not in answer.text
        assert "hash" not in answer.text
    (event,) = await audited(api, admin.tenant, "selfserve.api_key.created")
    assert (event["resource_type"], event["resource_id"], event["actor_id"]) == ("api_key", made["key_id"], admin.key_id)
    assert len(await audited(api, admin.tenant, "selfserve.api_key.listed")) == 1


async def test_an_answer_that_is_repeated_holds_no_secret_and_makes_no_second_key(api: Api) -> None:
    admin = await api.person()
    body, headers = {"role": "reader"}, {"Idempotency-Key": "once"}
    first, again = await admin.post(MINE, json=body, headers=headers), await admin.post(MINE, json=body, headers=headers)
    secret = first.json()["data"]["api_key"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["data"] == {**first.json()["data"], "api_key": None}
    stored = await rows(api, "select convert_from(body, 'UTF8') as body from idempotency_keys where tenant_id = $1", admin.tenant)
    assert secret not in str(stored)
    assert secret not in str(await rows(api, "select * from audit_events where tenant_id = $1", admin.tenant))
    assert await count(api, "select count(*) from api_keys where tenant_id = $1", admin.tenant) == 2


async def test_a_revoked_key_stays_revoked(api: Api) -> None:
    admin = await api.person()
    made = await make(admin)
    assert await status(api, made["api_key"]) == OK
    answers = [await admin.post(f"{MINE}/{made['key_id']}/revoke") for _ in range(2)]
    first, again = (answer.json()["data"] for answer in answers)
    assert first["revoked_at"] == again["revoked_at"] is not None
    assert (first["is_active"], again["is_active"]) == (False, False)
    await soon(lambda: status(api, made["api_key"]), ("AUTH_REVOKED_KEY", 401))
    assert len(await audited(api, admin.tenant, "selfserve.api_key.revoked")) == 1
    for body in ({"active": True}, {"active": True, "expires_at": None}, {"role": "reader"}, {"revoke": True, "role": "reader"}):
        assert error_of(await admin.patch(f"{ALL}/{made['key_id']}", json=body)) == ("CONFLICT", 409)
    renamed = await admin.patch(f"{ALL}/{made['key_id']}", json={"name": "Dead", "revoke": True, "expires_at": None})
    assert (renamed.json()["data"]["name"], await status(api, made["api_key"])) == ("Dead", ("AUTH_REVOKED_KEY", 401))


async def test_even_the_last_key_of_the_last_admin_can_be_revoked(api: Api) -> None:
    """It may have leaked. The way back in is `nexusrag keys create`, as the next test file of the command line shows."""
    admin = await api.person()
    assert (await admin.post(f"{MINE}/{admin.key_id}/revoke")).status_code == 200
    await soon(lambda: status(api, admin.key), ("AUTH_REVOKED_KEY", 401))
    back = await api.person("admin", admin.tenant)
    assert (await back.get(ALL)).status_code == 200


async def test_an_admin_revokes_switches_off_and_on_and_ends_a_key(api: Api) -> None:
    admin = await api.person()
    made = await make(admin)
    path = f"{ALL}/{made['key_id']}"
    past, future = clock.now() - timedelta(seconds=1), clock.now() + timedelta(days=2)
    for body, expected in (
        ({"name": "New name"}, OK),
        ({"active": False}, ("AUTH_INACTIVE_KEY", 401)),
        ({"active": True}, OK),
        ({"expires_at": past.isoformat()}, ("AUTH_EXPIRED_KEY", 401)),
        ({"expires_at": future.isoformat()}, OK),
        ({"expires_at": None}, OK),
        ({"revoke": False}, OK),
        ({"name": None, "active": None, "revoke": None, "role": None, "custom_role": None}, OK),
        ({"revoke": True}, ("AUTH_REVOKED_KEY", 401)),
    ):
        answer = await admin.patch(path, json=body)
        assert answer.status_code == 200, answer.text
        await soon(lambda: status(api, made["api_key"]), expected)
        assert answer.json()["data"]["is_active"] is (expected == OK)
        assert answer.json()["data"]["is_expired"] is (expected == ("AUTH_EXPIRED_KEY", 401))
    assert (await listed(admin, made["key_id"]))["name"] == "New name"
    assert len(await audited(api, admin.tenant, "auth.api_key.revoked")) == 1
    assert len(await audited(api, admin.tenant, "auth.api_key.updated")) == 6


@pytest.mark.parametrize(
    "body",
    [
        {"revoke": True, "active": True}, {"name": ""}, {"name": "n" * 121}, {"expires_at": "2030-01-01T00:00:00"}, {"expires_at": "soon"},
        {"role": "emperor"}, {"role": "reader", "custom_role": "x"}, {"custom_role": "nobody"}, {"user_id": "usr_1"},
        {"last_used_at": "2030-01-01T00:00:00Z"},
    ],
)  # fmt: skip
async def test_a_faulty_change_changes_nothing(api: Api, body: dict[str, Any]) -> None:
    admin = await api.person()
    before = await rows(api, "select * from api_keys where id = $1", admin.key_id)
    assert error_of(await admin.patch(f"{ALL}/{admin.key_id}", json=body)) == ("VALIDATION_ERROR", 422)
    after = await rows(api, "select * from api_keys where id = $1", admin.key_id)
    assert [{**row, "last_used_at": None} for row in after] == [{**row, "last_used_at": None} for row in before]


@pytest.mark.parametrize(
    "body",
    [
        {"role": None}, {"role": "emperor"}, {"name": "n" * 129}, {"expires_in_days": 0}, {"expires_in_days": 3651},
        {"custom_role": "reader", "role": None}, {"tenant_id": "elsewhere"}, {"kind": "scim"}, {"hash": "x"},
    ],
)  # fmt: skip
async def test_a_faulty_key_is_not_made(api: Api, body: dict[str, Any]) -> None:
    admin = await api.person()
    answer = await admin.post(MINE, json={"role": "reader", **body})
    assert answer.status_code == 422, answer.text
    assert await count(api, "select count(*) from api_keys where tenant_id = $1", admin.tenant) == 1


async def age(api: Api, key_id: str, days: int) -> None:
    await rows(
        api,
        "with aged as (update api_keys set last_used_at = now() - make_interval(days => $2), created_at = now() - interval '300 days' "
        "where id = $1 returning id) select pg_notify('nexusrag_changes', 'credential ' || id) from aged",
        key_id,
        days,
    )


async def test_reactivating_an_inactive_key_begins_its_time_anew(api: Api) -> None:
    admin = await api.person()
    made = await make(admin)
    await age(api, made["key_id"], 91)
    assert await status(api, made["api_key"]) == ("AUTH_INACTIVE_KEY", 401)
    shown = await listed(admin, made["key_id"])
    assert (shown["inactive_days"], shown["is_active"], shown["is_expired"]) == (91, True, False)
    answer = await admin.patch(f"{ALL}/{made['key_id']}", json={"active": True})
    assert answer.json()["data"]["inactive_days"] == 0
    assert await status(api, made["api_key"]) == OK


async def test_inactive_keys_are_reported_by_the_days_asked_for(api: Api) -> None:
    admin = await api.person()
    made = [await make(admin, name=str(days)) for days in (5, 40, 91, 200)]
    for one in made:
        await age(api, one["key_id"], int(one["name"]))
    await admin.post(f"{MINE}/{made[3]['key_id']}/revoke")

    async def reported(path: str, **params: Any) -> tuple[int, set[str]]:
        data = (await admin.get(path, params=params)).json()["data"]
        return data["inactive_days_threshold"], {item["name"] for item in data["items"]}

    assert await reported(f"{MINE}/inactive-report") == (90, {"91"})
    assert await reported(f"{MINE}/inactive-report", inactive_days=30) == (30, {"40", "91"})
    assert await reported(ALL, include_only_inactive=True, inactive_days=5) == (5, {"5", "40", "91"})
    threshold, names = await reported(ALL, inactive_days=30, tenant_id=admin.tenant)
    assert (threshold, names) == (30, {"5", "40", "91", "200", "Test"})
    for days in ("0", "-1", "x", "4000"):
        assert error_of(await admin.get(f"{MINE}/inactive-report", params={"inactive_days": days})) == ("VALIDATION_ERROR", 422)
    assert error_of(await admin.get(ALL, params={"tenant_id": "elsewhere"})) == ("NOT_FOUND", 404)
    assert len(await audited(api, admin.tenant, "selfserve.api_key.inactive_reported")) == 2


async def test_keys_come_newest_first_a_page_at_a_time(api: Api) -> None:
    admin = await api.person()
    for number in range(5):
        await make(admin, name=str(number))
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while True:
        data = (await admin.get(MINE, params=params)).json()["data"]
        seen += [item["name"] for item in data["items"]]
        if not data["page"]["has_more"]:
            break
        params["cursor"] = data["page"]["next_cursor"]
    assert seen == ["4", "3", "2", "1", "0", "Test"]
    other = await api.person("admin", admin.tenant)
    assert error_of(await other.get(MINE, params=params)) == ("INVALID_CURSOR", 400)
    assert error_of(await admin.get(ALL, params=params)) == ("INVALID_CURSOR", 400)


async def test_the_end_of_a_key_is_recorded_when_it_is_first_refused(api: Api) -> None:
    admin = await api.person()
    made = await make(admin)
    path = f"{ALL}/{made['key_id']}"
    for ended in (1, 2):
        await admin.patch(path, json={"expires_at": (clock.now() - timedelta(seconds=1)).isoformat()})
        for _ in range(3):
            await soon(lambda: status(api, made["api_key"]), ("AUTH_EXPIRED_KEY", 401))
        events = await audited(api, admin.tenant, "auth.api_key.expired")
        assert [event["actor_id"] for event in events] == [made["key_id"]] * ended


async def test_a_token_for_another_purpose_is_no_key(api: Api) -> None:
    admin = await api.person()
    for kind in ("scim", "sess", "share", "inv", "ref"):
        assert await status(api, mint(kind, admin.key_id).secret) == ("AUTH_UNAUTHORIZED", 401)


async def test_a_key_stays_within_its_tenant(api: Api) -> None:
    mine, theirs = await api.person(), await api.person()
    for answer in (
        await mine.patch(f"{ALL}/{theirs.key_id}", json={"revoke": True}),
        await mine.post(f"{ALL}/{theirs.key_id}/rotate"),
        await mine.post(f"{MINE}/{theirs.key_id}/revoke"),
        await mine.post(MINE, json={"role": "reader", "user_id": theirs.user_id}),
    ):
        assert error_of(answer) == ("NOT_FOUND", 404)
    assert await status(api, theirs.key) == OK


@pytest.mark.slow
async def test_keys_move_to_a_new_pepper_as_they_are_used(servers: Servers) -> None:
    old = servers.settings.auth.auth_key_pepper.get_secret_value()
    new = {"AUTH_KEY_PEPPER": "another-pepper-" + old}
    async with serving(servers.with_env(**new, AUTH_KEY_PEPPER_PREVIOUS=old)) as (app, url):
        api = Api(servers, app, url)
        used, unused = await api.person(), await api.person()
        before = await rows(api, "select hash from api_keys where id = $1", used.key_id)
        assert (await used.get("/v1/corpora")).status_code == 200
        async with asyncio.timeout(5):
            while await rows(api, "select hash from api_keys where id = $1", used.key_id) == before:
                await asyncio.sleep(0.02)
        await api.close()
    async with serving(servers.with_env(**new)) as (app, url):
        api = Api(servers, app, url)
        assert await status(api, used.key) == OK
        assert await status(api, unused.key) == ("AUTH_UNAUTHORIZED", 401)


async def test_the_limit_holds_however_many_ask_at_once(api: Api) -> None:
    admin = await api.person()
    for _ in range(15):
        await make(admin)
    answers = await asyncio.gather(*(admin.post(MINE, json={"role": "reader"}) for _ in range(20)))
    refused = [error_of(answer) for answer in answers if answer.status_code != 200]
    assert refused == [("KEY_LIMIT_REACHED", 409)] * 15
    assert await usable(api, admin) == 20 + 1, "the command line's own does not count"


async def usable(api: Api, admin: Person) -> int:
    return await count(
        api, "select count(*) from api_keys where tenant_id = $1 and active and revoked_at is null and "
        "(expires_at is null or expires_at > now())", admin.tenant,
    )  # fmt: skip


async def test_reviving_a_key_is_counted_like_making_one(api: Api) -> None:
    admin = await api.person()
    off, expired = await make(admin), await make(admin)
    await admin.patch(f"{ALL}/{off['key_id']}", json={"active": False})
    await admin.patch(f"{ALL}/{expired['key_id']}", json={"expires_at": "2020-01-01T00:00:00Z"})
    made = [await make(admin) for _ in range(20)]
    full = ("KEY_LIMIT_REACHED", 409)

    async def revive() -> list[httpx.Response]:
        return list(
            await asyncio.gather(
                admin.patch(f"{ALL}/{off['key_id']}", json={"active": True}),
                admin.patch(f"{ALL}/{expired['key_id']}", json={"expires_at": None}),
            )
        )

    assert [error_of(answer) for answer in await revive()] == [full, full]
    assert (await admin.patch(f"{ALL}/{made[0]['key_id']}", json={"name": "Renamed", "active": True})).status_code == 200
    await admin.post(f"{MINE}/{made[0]['key_id']}/revoke")
    assert sorted(answer.status_code for answer in await revive()) == [200, 409]
    assert await usable(api, admin) == 20 + 1
