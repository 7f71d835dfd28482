"""What provisioning can do for nobody: give a role, or make somebody else of a person whom an admin has given one."""

import json
from typing import Any

import pytest

from nexusrag.kernel.ids import new_id
from tests.identity.accounts.people import account
from tests.identity.scim.client import CORE, Scim, provisioning, refused
from tests.identity.scim.test_deactivation import employee, met
from tests.support.api import Api, Person
from tests.support.behind import rows
from tests.support.installation import Servers, serving
from tests.support.soon import soon

ADMINS_ONLY = "/v1/ops/health"
NO = ("AUTH_FORBIDDEN", 403)
YES = ("", 200)


async def mapped(client: Scim, name: str, role: str, *members: str) -> Any:
    """A group that an admin has mapped to a role."""
    group = await client.group(name, *members)
    answer = await client.admin.patch(f"/v1/admin/identity/groups/{group['id']}", json={"role": role})
    assert answer.status_code == 200, answer.text
    return group


async def test_a_mapped_group_brings_its_role_within_a_second_and_takes_it_away(api: Api) -> None:
    client = await provisioning(api)
    person = await employee(api, client)
    group = await mapped(client, "Admins", "admin")
    assert await met(person, ADMINS_ONLY) == NO
    await client.patch(f"/Groups/{group['id']}", {"op": "Add", "path": "members", "value": [{"value": person.user_id}]})
    await soon(lambda: met(person, ADMINS_ONLY), YES)
    await client.patch(f"/Groups/{group['id']}", {"op": "Remove", "path": f'members[value eq "{person.user_id}"]'})
    await soon(lambda: met(person, ADMINS_ONLY), NO)
    await client.put(f"/Groups/{group['id']}", {"displayName": "Admins", "members": [{"value": person.user_id}]})
    await soon(lambda: met(person, ADMINS_ONLY), YES)
    await client.delete(f"/Groups/{group['id']}")
    await soon(lambda: met(person, ADMINS_ONLY), NO)


async def test_nothing_that_a_client_writes_is_a_role(api: Api) -> None:
    client = await provisioning(api)
    person = await employee(api, client)
    roles = {"roles": [{"value": "admin", "primary": True}], "entitlements": [{"value": "admin"}], "userType": "admin", "role": "admin"}
    for answer in (
        await client.patch(f"/Users/{person.user_id}", {"op": "add", "value": roles}),
        await client.put(f"/Users/{person.user_id}", {"userName": "x", "custom_role_id": "x", "service": True, **roles}),
    ):
        assert answer.status_code == 200
    group = await client.group("admin", person.user_id, role="admin", externalId="admin")
    await client.put(f"/Groups/{group['id']}", {"displayName": "admin", "role": "admin", "members": [{"value": person.user_id}]})
    assert await met(person, ADMINS_ONLY) == NO
    (row,) = await rows(
        api,
        "select u.role, u.custom_role_id, u.service, g.role as mapped from users u, groups g where u.id = $1 and g.id = $2",
        person.user_id,
        group["id"],
    )
    assert row == {"role": "reader", "custom_role_id": None, "service": False, "mapped": None}


IDENTITY: list[dict[str, Any]] = [
    {"op": "replace", "path": "userName", "value": "mallory"},
    {"op": "add", "path": "externalId", "value": "mallory's subject"},
    {"op": "replace", "path": "emails[primary eq true].value", "value": "mallory@x"},
    {"op": "remove", "path": "emails"},
    {"op": "replace", "value": {"emails": [{"value": "mallory@x"}]}},
]


@pytest.mark.parametrize("operation", IDENTITY, ids=lambda value: json.dumps(value)[:50])
async def test_who_has_been_given_a_role_is_not_made_somebody_else(api: Api, operation: dict[str, Any]) -> None:
    """Otherwise whoever holds the token names themselves in the place of an admin, and logs in through the identity provider."""
    client = await provisioning(api)
    local = await account(api, "admin", admin=client.admin)
    before = (await client.get(f"/Users/{local.user_id}")).json()
    assert refused(await client.patch(f"/Users/{local.user_id}", operation)) == (403, None)
    body = {name: value for name, value in before.items() if name != "meta"} | {"externalId": "mallory"}
    assert refused(await client.put(f"/Users/{local.user_id}", body)) == (403, None)
    assert (await client.get(f"/Users/{local.user_id}")).json() == before
    (row,) = await rows(api, "select user_name, external_id, email from users where id = $1", local.user_id)
    assert row == {"user_name": None, "external_id": None, "email": local.email}


async def test_the_rest_of_who_has_been_given_a_role_may_change(api: Api) -> None:
    client = await provisioning(api)
    local = await account(api, "editor", admin=client.admin)
    answer = await client.patch(f"/Users/{local.user_id}", {"op": "add", "value": {"title": "Dr", "active": False}})
    assert (answer.json()["title"], answer.json()["active"]) == ("Dr", False)
    (row,) = await rows(api, "select user_name, email, status from users where id = $1", local.user_id)
    assert row == {"user_name": None, "email": local.email, "status": "disabled"}


async def test_whom_an_identity_provider_has_vouched_for_may_be_renamed(api: Api) -> None:
    client = await provisioning(api)
    local = await account(api, "editor", admin=client.admin)
    provider = new_id("idp")
    await rows(
        api,
        "insert into identity_providers (tenant_id, id, type, name, issuer, client_id, client_secret_ref, auth_url, token_url, jwks_url, "
        "default_role) values ($1, $2, 'oidc', 'x', 'x', 'x', 'x', 'x', 'x', 'x', 'reader')",
        client.tenant,
        provider,
    )
    await rows(
        api,
        "insert into user_identities (tenant_id, provider_id, subject, user_id) values ($1, $2, 's', $3)",
        client.tenant,
        provider,
        local.user_id,
    )
    answer = await client.patch(f"/Users/{local.user_id}", {"op": "replace", "value": {"userName": "married", "externalId": "e"}})
    assert (answer.json()["userName"], answer.json()["externalId"]) == ("married", "e")


async def test_a_reader_is_taken_on_and_renamed(api: Api) -> None:
    client = await provisioning(api)
    local = await account(api, "reader", admin=client.admin)
    answer = await client.patch(f"/Users/{local.user_id}", {"op": "replace", "value": {"userName": "renamed", "externalId": "e"}})
    assert answer.json()["userName"] == "renamed"


async def test_where_raising_needs_two_a_client_raises_nobody(servers: Servers) -> None:
    async with serving(servers.with_env(IDENTITY_DUAL_CONTROL_REQUIRED="true")) as (app, url):
        api = Api(servers, app, url)
        client = await provisioning(api)
        person = await employee(api, client)
        group, plain = await client.group("Admins"), await client.group("Plain")
        await rows(api, "update groups set role = 'admin' where id = $1", group["id"])
        inside = {"op": "add", "path": "members", "value": [{"value": person.user_id}]}
        answer = await client.patch(f"/Groups/{group['id']}", inside)
        assert refused(answer) == (403, None)
        assert "second admin" in answer.json()["detail"]
        assert refused(await client.put(f"/Groups/{group['id']}", {"displayName": "A", "members": inside["value"]})) == (403, None)
        assert (await client.patch(f"/Groups/{plain['id']}", inside)).status_code == 200
        await api.close()


async def test_where_raising_needs_two_who_is_raised_by_a_group_is_not_made_somebody_else(servers: Servers) -> None:
    async with serving(servers.with_env(IDENTITY_DUAL_CONTROL_REQUIRED="true")) as (app, url):
        api = Api(servers, app, url)
        client = await provisioning(api)
        person = await employee(api, client)
        group = await client.group("Group", person.user_id)
        rename = {"op": "replace", "value": {"externalId": "mallory"}}
        for role, status in (("admin", 403), ("editor", 403), ("reader", 200)):
            await rows(api, "update groups set role = $2 where id = $1", group["id"], role)
            assert (await client.patch(f"/Users/{person.user_id}", rename)).status_code == status, role
        await api.close()


async def test_what_is_granted_to_a_group_reaches_who_is_put_into_it(api: Api) -> None:
    client = await provisioning(api)
    person, owner = await employee(api, client), await api.person("editor", client.tenant)
    corpus = await owner.corpus()
    document = await owner.text(corpus, "Only for the red ones.")
    group = await client.group("Red")
    body = {"principal_type": "group", "principal_id": group["id"], "permission": "read"}
    assert (await client.admin.post(f"/v1/admin/authz/documents/{document}/permissions", json=body)).status_code in (200, 201)
    assert await found(person, corpus) == 0
    await client.patch(f"/Groups/{group['id']}", {"op": "add", "path": "members", "value": [{"value": person.user_id}]})
    await soon(lambda: found(person, corpus), 1)
    await client.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members"})
    await soon(lambda: found(person, corpus), 0)


async def found(person: Person, corpus: str) -> int:
    return len(await person.search(corpus, "who are the red ones?"))


async def test_a_policy_of_the_tenant_binds_the_client_too(api: Api) -> None:
    client = await provisioning(api)
    body = {"name": "freeze", "effect": "deny", "resource_type": "scim_token", "action": "provision", "condition_json": None}
    answer = await client.admin.post("/v1/admin/authz/policies", json=body)
    assert answer.status_code in (200, 201), answer.text
    await soon(lambda: status(client), 403)
    assert refused(await client.post("/Users", {"schemas": [f"{CORE}User"], "userName": "x"})) == (403, None)


async def status(client: Scim) -> int:
    return (await client.get("/Users")).status_code
