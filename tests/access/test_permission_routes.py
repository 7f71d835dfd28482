"""Granting and taking back through the API: who may, what is refused, and that it holds from the answer on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, count, rows

QUESTION = "What opens the cellar door?"


class World:
    """An admin, an owner with one document in one restricted corpus, and a reader who sees nothing of it yet."""

    def __init__(self, admin: Person, owner: Person, reader: Person, corpus: str, document: str) -> None:
        self.admin, self.owner, self.reader, self.corpus, self.document = admin, owner, reader, corpus, document

    @property
    def path(self) -> str:
        return f"/v1/admin/authz/documents/{self.document}/permissions"

    @property
    def corpus_path(self) -> str:
        return f"/v1/admin/authz/corpora/{self.corpus}/permissions"

    async def met(self) -> bool:
        """Whether the reader meets the document: read, listed and found, or nothing of these."""
        read = (await self.reader.get(f"/v1/documents/{self.document}")).status_code == 200
        listed = bool((await self.reader.get("/v1/documents")).json()["data"])
        found = bool(await self.reader.search(self.corpus, QUESTION))
        assert read == listed == found
        return read


@pytest.fixture
async def world(api: Api) -> World:
    admin = await api.person("admin")
    owner, reader = await api.person("editor", admin.tenant), await api.person("reader", admin.tenant)
    corpus = await owner.corpus()
    return World(admin, owner, reader, corpus, await owner.text(corpus, "The cellar door opens with the brass key."))


def to(kind: str, principal: str, permission: str = "read", **more: Any) -> dict[str, Any]:
    return {"principal_type": kind, "principal_id": principal, "permission": permission, **more}


async def test_a_grant_holds_from_its_answer_on_and_until_it_is_taken_back(api: Api, world: World) -> None:
    made = await world.admin.post(world.path, json=to("user", world.reader.user_id))
    assert made.status_code == 201
    grant = made.json()["data"]
    assert grant == {
        "id": grant["id"], "tenant_id": world.admin.tenant, "document_id": world.document, "principal_type": "user",
        "principal_id": world.reader.user_id, "permission": "read", "granted_by": world.admin.user_id, "expires_at": None,
        "created_at": grant["created_at"],
    }  # fmt: skip
    assert await world.met()
    listed = (await world.admin.get(world.path)).json()["data"]["items"]
    assert [(one["principal_id"], one["permission"]) for one in listed] == [
        (world.owner.user_id, "owner"), (world.reader.user_id, "read"),
    ]  # fmt: skip
    taken = await world.admin.delete(f"{world.path}/{grant['id']}")
    assert (taken.status_code, taken.json()["data"]) == (200, grant)
    assert not await world.met()
    assert error_of(await world.admin.delete(f"{world.path}/{grant['id']}")) == ("AUTHZ_PERMISSION_NOT_FOUND", 404)
    (granted,) = await audited(api, world.admin.tenant, "authz.permission.granted")
    (revoked,) = await audited(api, world.admin.tenant, "authz.permission.revoked")
    assert granted["resource_id"] == revoked["resource_id"] == world.document
    assert "brass" not in str(granted)


async def test_a_grant_on_a_corpus_reaches_every_document_in_it_those_to_come_included(world: World) -> None:
    made = (await world.admin.post(world.corpus_path, json=to("user", world.reader.user_id))).json()["data"]
    assert made["corpus_id"] == world.corpus
    assert await world.met()
    later = await world.owner.text(world.corpus, "The attic has a window.")
    assert (await world.reader.get(f"/v1/documents/{later}")).status_code == 200
    assert error_of(await world.reader.delete(f"/v1/documents/{later}")) == ("AUTH_FORBIDDEN", 403)
    await world.admin.delete(f"{world.corpus_path}/{made['id']}")
    assert not await world.met()


async def test_a_permission_to_delete_is_enough_to_delete_without_reading(api: Api, world: World) -> None:
    helper = await api.person("editor", world.admin.tenant)
    assert error_of(await helper.delete(f"/v1/documents/{world.document}")) == ("NOT_FOUND", 404)
    await world.admin.post(world.corpus_path, json=to("user", helper.user_id, "delete"))
    assert error_of(await helper.get(f"/v1/documents/{world.document}")) == ("NOT_FOUND", 404)
    assert (await helper.delete(f"/v1/documents/{world.document}")).status_code == 204


async def test_a_group_has_what_it_was_granted_for_as_long_as_one_is_in_it(api: Api, world: World) -> None:
    tenant, user = world.admin.tenant, world.reader.user_id
    await rows(api, "insert into groups (tenant_id, id, display_name) values ($1, 'grp_keys', 'Keyholders')", tenant)
    for path in (world.path, world.corpus_path):
        assert (await world.admin.post(path, json=to("group", "grp_keys"))).status_code == 201
        assert not await world.met()
        await rows(api, "insert into group_members (tenant_id, group_id, user_id) values ($1, 'grp_keys', $2)", tenant, user)
        assert await world.met()
        await rows(api, "delete from group_members where tenant_id = $1 and user_id = $2", tenant, user)
        assert not await world.met()


async def test_granted_again_the_expiry_is_the_new_one(api: Api, world: World) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    first = (await world.admin.post(world.path, json=to("role", "reader", expires_at=until.isoformat()))).json()["data"]
    assert datetime.fromisoformat(first["expires_at"]) == until
    second = (await world.admin.post(world.path, json=to("role", "reader"))).json()["data"]
    assert (second["id"], second["expires_at"]) == (first["id"], None)
    assert await world.met()
    await rows(api, "update document_permissions set expires_at = now() - interval '1 ms' where id = $1", first["id"])
    assert not await world.met()


async def test_many_at_once_are_all_made_or_none(api: Api, world: World) -> None:
    tenant = world.admin.tenant
    before = await count(api, "select count(*) from document_permissions where tenant_id = $1", tenant)
    good = [to("user", world.reader.user_id), to("role", "admin", "owner"), to("api_key", world.reader.key_id, "write")]
    refused = await world.admin.post(f"{world.path}/bulk", json={"permissions": [*good, to("user", "usr_nobody")]})
    assert error_of(refused) == ("VALIDATION_ERROR", 422)
    assert refused.json()["error"]["details"]["errors"][0]["field"] == "permissions.3.principal_id"
    assert await count(api, "select count(*) from document_permissions where tenant_id = $1", tenant) == before
    made = await world.admin.post(f"{world.path}/bulk", json={"permissions": [*good, good[0]]})
    assert made.status_code == 201
    items = made.json()["data"]["items"]
    assert [(one["principal_type"], one["permission"]) for one in items] == [
        ("user", "read"), ("role", "owner"), ("api_key", "write"), ("user", "read"),
    ]  # fmt: skip
    assert items[0]["id"] == items[3]["id"]
    assert await count(api, "select count(*) from document_permissions where tenant_id = $1", tenant) == before + 3


@pytest.mark.parametrize(
    "body",
    [
        {}, to("user", ""), to("user", "u" * 129), to("everyone", "x"), to("role", "owner"), to("group", "grp_none"),
        to("api_key", "key_none"), to("user", "usr_x", "admin"), to("role", "reader", expires_at="2020-01-01T00:00:00Z"),
        to("role", "reader", expires_at="2999-01-01T00:00:00"), to("role", "reader", expires_at="soon"),
        to("role", "reader", tenant="other"),
    ],
)  # fmt: skip
async def test_what_names_nobody_or_has_passed_is_refused(world: World, body: dict[str, Any]) -> None:
    for path in (world.path, world.corpus_path):
        assert error_of(await world.admin.post(path, json=body)) == ("VALIDATION_ERROR", 422)


async def test_people_of_another_tenant_are_nobody_here(api: Api, world: World) -> None:
    stranger = await api.person("admin")
    for kind, one in (("user", stranger.user_id), ("api_key", stranger.key_id)):
        assert error_of(await world.admin.post(world.path, json=to(kind, one))) == ("VALIDATION_ERROR", 422)
    for path in (world.path, world.corpus_path):
        assert error_of(await stranger.get(path)) == ("NOT_FOUND", 404)
        assert error_of(await stranger.post(path, json=to("role", "admin"))) == ("NOT_FOUND", 404)
        (_, *_), known = (await world.admin.get(world.path)).json()["data"]["items"], path
        assert error_of(await stranger.delete(f"{known}/perm_x")) == ("NOT_FOUND", 404)


async def test_only_who_manages_permissions_grants_them_the_owner_included(world: World) -> None:
    for person in (world.owner, world.reader):
        for path in (world.path, world.corpus_path):
            assert error_of(await person.get(path)) == ("AUTH_FORBIDDEN", 403)
            assert error_of(await person.post(path, json=to("user", person.user_id))) == ("AUTH_FORBIDDEN", 403)


async def test_an_admin_reads_no_document_without_a_grant_and_a_grant_to_oneself_is_on_record(api: Api, world: World) -> None:
    assert error_of(await world.admin.get(f"/v1/documents/{world.document}")) == ("AUTHZ_DENIED", 403)
    assert (await world.admin.post(world.path, json=to("user", world.admin.user_id))).status_code == 201
    assert (await world.admin.get(f"/v1/documents/{world.document}")).status_code == 200
    (event,) = await audited(api, world.admin.tenant, "authz.permission.granted")
    assert event["actor_id"] == world.admin.key_id
    assert world.admin.user_id in event["metadata"]


async def test_a_permission_of_one_document_is_not_taken_back_through_another(world: World) -> None:
    other = await world.owner.text(world.corpus, "Another text.")
    made = (await world.admin.post(world.path, json=to("user", world.reader.user_id))).json()["data"]
    wrong = f"/v1/admin/authz/documents/{other}/permissions/{made['id']}"
    assert error_of(await world.admin.delete(wrong)) == ("AUTHZ_PERMISSION_NOT_FOUND", 404)
    assert await world.met()
