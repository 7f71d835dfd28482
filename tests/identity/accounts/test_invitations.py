"""Inviting people: never as more than the inviter is, with a token that is shown once."""

from typing import Any

import pytest

from nexusrag.identity.accounts.jobs import sweep
from nexusrag.kernel.actions import ACTIONS_OF, Role
from tests.identity.accounts.people import invitation, new_address, register
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows

PATH = "/v1/admin/identity/invitations"


async def listed(admin: Person, **query: Any) -> Any:
    answer = await admin.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def custom_role(api: Api, person: Person, name: str, *actions: str) -> str:
    statement = "insert into custom_roles (tenant_id, id, name, base, actions) values ($1, $2, $2, 'admin', $3)"
    await rows(api, statement, person.tenant, name, list(actions))
    return name


async def test_an_invitation_shows_its_token_once(api: Api) -> None:
    admin, email = await api.person(), new_address()
    answer = await admin.post(PATH, json={"email": email, "role": "editor"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    made = answer.json()["data"]
    token = made.pop("token")
    assert token.startswith("nrag_inv_")
    assert (made["email"], made["role"], made["custom_role"], made["status"]) == (email, "editor", None, "pending")
    assert made["invited_by"] == admin.user_id
    assert (await listed(admin))["data"] == [made]
    assert token.rsplit("_", 1)[1] not in str(await rows(api, "select * from invitations where tenant_id = $1", admin.tenant))
    (event,) = await audited(api, admin.tenant, "auth.invitation.created")
    assert (event["resource_type"], event["resource_id"]) == ("invitation", made["id"])


async def test_a_repeated_request_makes_no_second_one_and_shows_no_token(api: Api) -> None:
    admin, body = await api.person(), {"email": new_address(), "role": "reader"}
    first, second = [await admin.post(PATH, json=body, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert second.json()["data"] == {**first.json()["data"], "token": None}
    assert len((await listed(admin))["data"]) == 1


async def test_they_are_listed_newest_first_page_by_page(api: Api) -> None:
    admin, other = await api.person(), await api.person()
    await invitation(other, new_address())
    made = [(await invitation(admin, new_address()))["id"] for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = await listed(admin, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [one["id"] for one in page["data"]]
        cursor = page["meta"]["page"]["next_cursor"]
        if not page["meta"]["page"]["has_more"]:
            break
    assert seen == made[::-1]


async def test_each_says_how_it_stands(api: Api) -> None:
    admin = await api.person()
    made = {name: await invitation(admin, new_address()) for name in ("pending", "accepted", "revoked", "expired")}
    await register(api.anonymous(), made["accepted"]["email"], made["accepted"]["token"])
    await rows(api, "update invitations set expires_at = now() where id = $1", made["expired"]["id"])
    for _ in range(2):  # what is revoked stays so
        answer = await admin.post(f"{PATH}/{made['revoked']['id']}/revoke")
        assert (answer.status_code, answer.json()["data"]["status"]) == (200, "revoked")
    statuses = {one["id"]: one["status"] for one in (await listed(admin))["data"]}
    assert statuses == {one["id"]: name for name, one in made.items()}
    assert error_of(await admin.post(f"{PATH}/{made['accepted']['id']}/revoke")) == ("CONFLICT", 409)
    assert (await audited(api, admin.tenant, "auth.invitation.revoked"))[0]["resource_id"] == made["revoked"]["id"]


async def test_nobody_invites_as_more_than_they_are(api: Api) -> None:
    admin = await api.person()
    role = await custom_role(api, admin, "recruiter", "invitations.manage", "corpora.read")
    recruiter = await api.person("admin", admin.tenant)
    await rows(api, "update users set custom_role_id = $3 where tenant_id = $1 and id = $2", admin.tenant, recruiter.user_id, role)
    wider = await custom_role(api, admin, "wider", "invitations.manage", "corpora.read", "plans.assign")
    for fields in ({"role": "admin"}, {"role": "editor"}, {"role": "reader"}, {"custom_role": wider}):
        answer = await recruiter.post(PATH, json={"email": new_address(), **fields})
        assert error_of(answer) == ("AUTH_FORBIDDEN", 403), fields
    made = await invitation(recruiter, new_address(), custom_role=role)
    assert (made["role"], made["custom_role"]) == ("admin", role)
    answer = await register(api.anonymous(), made["email"], made["token"])
    assert answer.json()["data"]["user"]["custom_role"] == role


async def test_a_key_invites_as_no_more_than_itself(api: Api) -> None:
    admin = await api.person()
    role = await custom_role(api, admin, "inviter", "invitations.manage", *sorted(ACTIONS_OF[Role.READER]))
    await rows(api, "update api_keys set custom_role_id = $2 where tenant_id = $1", admin.tenant, role)
    assert error_of(await admin.post(PATH, json={"email": new_address(), "role": "editor"})) == ("AUTH_FORBIDDEN", 403)
    assert (await admin.post(PATH, json={"email": new_address(), "role": "reader"})).status_code == 201


async def test_a_role_that_has_grown_is_given_by_nobody_who_lacks_what_it_grew_by(api: Api) -> None:
    admin = await api.person()
    role = await custom_role(api, admin, "clerk", "invitations.manage", "corpora.read")
    clerk = await api.person("admin", admin.tenant)
    await rows(api, "update users set custom_role_id = $3 where tenant_id = $1 and id = $2", admin.tenant, clerk.user_id, role)
    other = await custom_role(api, admin, "helper", "corpora.read")
    made = await invitation(clerk, new_address(), custom_role=other)
    await rows(api, "update custom_roles set actions = '{corpora.read,users.manage}' where tenant_id = $1 and id = 'helper'", admin.tenant)
    assert error_of(await register(api.anonymous(), made["email"], made["token"])) == ("AUTH_UNAUTHORIZED", 401)


async def test_what_is_wrong_with_an_invitation_is_told(api: Api) -> None:
    admin = await api.person()
    for fields in (
        {},
        {"role": "owner"},
        {"custom_role": "none"},
        {"role": "reader", "custom_role": "none"},
        {"role": "reader", "tenant": "t"},
    ):
        assert error_of(await admin.post(PATH, json={"email": new_address(), **fields})) == ("VALIDATION_ERROR", 422), fields
    assert error_of(await admin.post(PATH, json={"email": "nobody", "role": "reader"})) == ("VALIDATION_ERROR", 422)


@pytest.mark.parametrize("end", ["revoked", "expired", "accepted"])
async def test_a_role_is_held_by_those_alone_that_can_still_be_accepted(api: Api, end: str) -> None:
    admin, roles = await api.person(), "/v1/admin/authz/roles"
    assert (await admin.post(roles, json={"id": "r", "name": "x", "actions": ["corpora.read"]})).status_code == 201
    made = await invitation(admin, new_address(), custom_role="r")
    assert error_of(await admin.delete(f"{roles}/r")) == ("CONFLICT", 409)
    if end == "revoked":
        assert (await admin.post(f"{PATH}/{made['id']}/revoke")).status_code == 200
    elif end == "expired":
        await rows(api, "update invitations set expires_at = now() where id = $1", made["id"])
    else:
        user = (await register(api.anonymous(), made["email"], made["token"])).json()["data"]["user"]
        assert (await admin.patch(f"/v1/admin/identity/users/{user['id']}/role", json={"role": "reader"})).status_code == 200
    if end != "revoked":
        await sweep(api.resources)
    assert (await admin.delete(f"{roles}/r")).status_code == 204
