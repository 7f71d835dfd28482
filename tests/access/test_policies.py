"""Policies through the API: what they hide, give and take, everywhere alike, and who may write them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.access.test_document_permissions import EVERYWHERE, QUESTION, TEXT, sees
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited
from tests.support.installation import Servers, serving

DENIED = ("AUTHZ_DENIED", 403)
PATH = "/v1/admin/authz/policies"
SENSITIVE = {"eq": [{"var": "resource.labels.sensitivity"}, "high"]}


def policy(effect: str, action: str, condition: Any = None, resource_type: str = "document", **more: Any) -> dict[str, Any]:
    return {
        "name": f"{effect} {action}", "effect": effect, "resource_type": resource_type, "action": action, "condition_json": condition,
    } | more  # fmt: skip


class World:
    """A tenant with an open corpus of two documents, one labelled as sensitive, one as not, and people of each role."""

    def __init__(self, admin: Person, editor: Person, reader: Person) -> None:
        self.admin, self.editor, self.reader = admin, editor, reader
        self.corpus = self.secret = self.plain = ""

    async def write(self, **fields: Any) -> dict[str, Any]:
        answer = await self.admin.post(PATH, json=fields)
        assert answer.status_code == 201, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data


async def new_world(api: Api) -> World:
    admin = await api.person("admin")
    world = World(admin, await api.person("editor", admin.tenant), await api.person("reader", admin.tenant))
    world.corpus = await world.admin.corpus("tenant")
    world.secret = await world.editor.text(world.corpus, TEXT, metadata_json={"labels": {"sensitivity": "high"}})
    world.plain = await world.editor.text(world.corpus, f"{TEXT} So they say.", metadata_json={"labels": {"sensitivity": "low"}})
    return world


@pytest.fixture
async def world(api: Api) -> World:
    return await new_world(api)


async def test_what_a_policy_denies_is_met_nowhere_even_by_its_owner(world: World) -> None:
    alone = await world.editor.corpus()
    document = await world.editor.text(alone, TEXT, metadata_json={"labels": {"sensitivity": "high"}})
    assert await sees(world.editor, alone, document) == EVERYWHERE
    made = await world.write(**policy("deny", "read", SENSITIVE))
    for person in (world.editor, world.reader):
        assert {row["id"] for row in (await person.get("/v1/documents")).json()["data"]} == {world.plain}
        assert {passage["document_id"] for passage in await person.search(world.corpus, QUESTION)} == {world.plain}
    assert await sees(world.editor, alone, document) == set()
    assert error_of(await world.admin.get(f"/v1/documents/{world.secret}")) == DENIED
    assert (await world.admin.post(f"{PATH}/{made['id']}/disable")).json()["data"]["enabled"] is False
    assert await sees(world.editor, alone, document) == EVERYWHERE


async def test_a_policy_can_give_what_no_grant_gave(api: Api, world: World) -> None:
    alone = await world.editor.corpus()
    document = await world.editor.text(alone, TEXT)
    assert await sees(world.reader, alone, document) == set()
    await world.write(**policy("allow", "read", {"eq": [{"var": "principal.role"}, "reader"]}))
    assert await sees(world.reader, alone, document) == EVERYWHERE
    other = await api.person("editor", world.admin.tenant)
    assert await sees(other, alone, document) == set()
    await world.write(**policy("deny", "read", {"eq": [{"var": "resource.id"}, document]}, priority=-5))
    assert await sees(world.reader, alone, document) == set()


async def test_a_role_is_needed_whatever_policies_allow(world: World) -> None:
    await world.write(**policy("allow", "delete"))
    assert error_of(await world.reader.delete(f"/v1/documents/{world.plain}")) == ("AUTH_FORBIDDEN", 403)


async def test_what_cannot_be_told_grants_nothing_and_keeps_denying(world: World) -> None:
    unlabelled = await world.editor.text(world.corpus, TEXT)
    await world.write(**policy("deny", "read", SENSITIVE))
    assert error_of(await world.reader.get(f"/v1/documents/{unlabelled}")) == ("NOT_FOUND", 404)
    assert {row["id"] for row in (await world.reader.get("/v1/documents")).json()["data"]} == {world.plain}


@pytest.mark.parametrize("verb", ["create", "write"])
async def test_a_policy_against_writing_refuses_uploads_by_their_labels(world: World, verb: str) -> None:
    await world.write(**policy("deny", verb, {"all": [{"exists": {"var": "resource.labels.sensitivity"}}, SENSITIVE]}))
    body = {"corpus_id": world.corpus, "text": TEXT}
    refused = await world.editor.post("/v1/documents/text", json={**body, "metadata_json": {"labels": {"sensitivity": "high"}}})
    assert error_of(refused) == DENIED
    form = {"corpus_id": world.corpus, "metadata_json": '{"labels": {"sensitivity": "high"}}'}
    assert error_of(await world.editor.post("/v1/documents", data=form, files={"file": ("a.txt", b"words")})) == DENIED
    assert (await world.editor.post("/v1/documents/text", json=body)).status_code == 202


async def test_policies_take_from_roles_what_is_no_document(api: Api, world: World) -> None:
    other = await world.admin.corpus("tenant", name="Other")
    hidden = await world.write(**policy("deny", "read", {"eq": [{"var": "resource.id"}, other]}, "corpus"))
    assert {row["id"] for row in (await world.reader.get("/v1/corpora")).json()["data"]} == {world.corpus}
    assert error_of(await world.reader.get(f"/v1/corpora/{other}")) == DENIED
    await world.write(**policy("deny", "create", {"eq": [{"var": "resource.corpus_id"}, other]}, "run"))
    run = {"session_id": "s-1", "corpus_id": other, "message": QUESTION}
    assert error_of(await world.reader.post("/v1/run", json=run)) == DENIED
    await world.write(**policy("deny", "read", {"not": {"ip_in": [{"var": "request.ip"}, ["10.0.0.0/8"]]}}, "ops"))
    assert error_of(await world.admin.get("/v1/ops/health")) == DENIED
    denials = await audited(api, world.admin.tenant, "authz.policy.denied")
    assert hidden["id"] in denials[0]["metadata"]
    assert len(denials) == 3


async def test_changes_bind_in_every_process_within_a_second(servers: Servers, api: Api, world: World) -> None:
    async with serving(servers.with_env()) as (_, elsewhere), world.reader.at(elsewhere) as reader:
        assert (await reader.get(f"/v1/documents/{world.secret}")).status_code == 200
        made = await world.write(**policy("deny", "read", SENSITIVE))
        await reader.soon(f"/v1/documents/{world.secret}", 404)
        await world.admin.post(f"{PATH}/{made['id']}/disable")
        await reader.soon(f"/v1/documents/{world.secret}", 200)


@pytest.fixture(params=["AUTHZ_ABAC_ENABLED=false", "AUTHZ_DEFAULT_DENY=false", "AUTHZ_ADMIN_BYPASS_DOCUMENT_ACL=true"])
async def setting(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    yield str(request.param)


async def test_settings_change_the_rule_and_a_denial_still_wins(servers: Servers, world: World, setting: str) -> None:
    alone = await world.editor.corpus()
    document = await world.editor.text(alone, TEXT, metadata_json={"labels": {"sensitivity": "low"}})
    await world.write(**policy("deny", "read", SENSITIVE))
    name, _, value = setting.partition("=")
    async with serving(servers.with_env(**{name: value})) as (_, url):
        met = {
            "AUTHZ_ABAC_ENABLED": ({world.secret, world.plain}, {world.secret, world.plain}),
            "AUTHZ_DEFAULT_DENY": ({world.plain, document}, {world.plain, document}),
            "AUTHZ_ADMIN_BYPASS_DOCUMENT_ACL": ({world.plain, document}, {world.plain}),
        }[name]
        for someone, expected in zip((world.admin, world.reader), met, strict=True):
            async with someone.at(url) as person:
                assert {row["id"] for row in (await person.get("/v1/documents")).json()["data"]} == expected
                for one in (world.secret, world.plain, document):
                    assert ((await person.get(f"/v1/documents/{one}")).status_code == 200) is (one in expected)


async def test_the_shape_of_a_policy_and_its_life(api: Api, world: World) -> None:
    made = await world.write(**policy("deny", "read", SENSITIVE, priority=200, enabled=False))
    assert made == {
        "id": made["id"], "tenant_id": world.admin.tenant, "name": "deny read", "version": 1, "effect": "deny", "resource_type": "document",
        "action": "read", "condition_json": SENSITIVE, "priority": 200, "enabled": False, "created_by": world.admin.user_id,
        "created_at": made["created_at"], "updated_at": made["updated_at"],
    }  # fmt: skip
    changed = (await world.admin.patch(f"{PATH}/{made['id']}", json={"name": "renamed", "condition_json": None})).json()["data"]
    assert (changed["name"], changed["condition_json"], changed["version"], changed["effect"]) == ("renamed", None, 2, "deny")
    assert (await world.admin.post(f"{PATH}/{made['id']}/enable")).json()["data"]["enabled"] is True
    assert (await world.admin.post(f"{PATH}/{made['id']}/enable")).json()["data"]["version"] == 3
    assert [one["id"] for one in (await world.admin.get(PATH)).json()["data"]["items"] if one["tenant_id"]] == [made["id"]]
    assert (await world.admin.delete(f"{PATH}/{made['id']}")).status_code == 204
    assert error_of(await world.admin.get(f"{PATH}/{made['id']}")) == ("NOT_FOUND", 404)
    for event in ("created", "updated", "enabled", "deleted"):
        (one, *_) = await audited(api, world.admin.tenant, f"authz.policy.{event}")
        assert one["resource_id"] == made["id"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"condition_json": {"eq": [1]}}, "AUTHZ_POLICY_INVALID"),
        ({"condition_json": {"like": [{"var": "resource.id"}, "x"]}}, "AUTHZ_POLICY_INVALID"),
        ({"condition_json": {"eq": [{"var": "resource.__class__"}, "x"]}}, "AUTHZ_POLICY_INVALID"),
        ({"resource_type": "planet"}, "AUTHZ_POLICY_INVALID"),
        ({"action": "fly"}, "AUTHZ_POLICY_INVALID"),
        ({"resource_type": "*", "action": "*"}, "AUTHZ_POLICY_INVALID"),
        ({"condition_json": {"all": [{"eq": [{"var": "resource.filename"}, "x" * 20_000]}]}}, "AUTHZ_POLICY_TOO_COMPLEX"),
        ({"effect": "maybe"}, "VALIDATION_ERROR"),
        ({"priority": 10**12}, "VALIDATION_ERROR"),
        ({"tenant": "x"}, "VALIDATION_ERROR"),
    ],
)
async def test_what_is_no_policy_is_refused_when_it_is_written(world: World, fields: dict[str, Any], code: str) -> None:
    whole = policy("allow", "read", SENSITIVE)
    assert error_of(await world.admin.post(PATH, json=whole | fields)) == (code, 422)
    if "tenant" not in fields:
        made = await world.write(**whole, enabled=False)
        assert error_of(await world.admin.patch(f"{PATH}/{made['id']}", json=fields)) == (code, 422)


async def test_more_patterns_than_the_database_keeps_compiled_are_not_let_in(api: Api) -> None:
    admin = await api.person("admin")

    def matching(pattern: str, **more: Any) -> dict[str, Any]:
        return policy("deny", "read", {"matches": [{"var": "resource.session_id"}, pattern]}, "run", **more)

    most = {"any": [{"matches": [{"var": "resource.session_id"}, f"x{number}"]} for number in range(30)]}
    made = (await admin.post(PATH, json=policy("deny", "read", most, "run"))).json()["data"]
    assert error_of(await admin.post(PATH, json=matching("y"))) == ("AUTHZ_POLICY_TOO_COMPLEX", 422)
    assert (await admin.post(PATH, json=matching("x7"))).status_code == 201
    waiting = (await admin.post(PATH, json=matching("y", enabled=False))).json()["data"]
    assert error_of(await admin.post(f"{PATH}/{waiting['id']}/enable")) == ("AUTHZ_POLICY_TOO_COMPLEX", 422)
    assert (await admin.post(f"{PATH}/{made['id']}/disable")).status_code == 200
    assert (await admin.post(f"{PATH}/{waiting['id']}/enable")).status_code == 200


async def test_another_tenants_policies_and_the_platforms_are_not_theirs_to_change(api: Api, world: World) -> None:
    stranger = await api.person("admin")
    made = await world.write(**policy("deny", "read", enabled=False))
    for method, path in (("get", ""), ("patch", ""), ("delete", ""), ("post", "/enable"), ("post", "/disable"), ("post", "/simulate")):
        answer = await getattr(stranger, method)(f"{PATH}/{made['id']}{path}", **({"json": {}} if method in ("post", "patch") else {}))
        assert error_of(answer) in (("NOT_FOUND", 404), ("VALIDATION_ERROR", 422)), (method, path)
    refused = await stranger.post(PATH, json=policy("deny", "read", enabled=False, is_global=True))
    assert error_of(refused) == ("AUTH_FORBIDDEN", 403)
    for person in (world.editor, world.reader):
        assert error_of(await person.get(PATH)) == ("AUTH_FORBIDDEN", 403)


async def test_a_simulation_says_what_would_be_decided_and_why(api: Api, world: World) -> None:
    made = await world.write(**policy("deny", "read", SENSITIVE, enabled=False))
    other = await world.write(**policy("allow", "read", {"eq": [{"var": "principal.role"}, "reader"]}, priority=1))
    path = f"{PATH}/{made['id']}/simulate"
    body = {"resource_type": "document", "action": "read", "principal": {"role": "reader"}}
    denied = (await world.admin.post(path, json={**body, "resource": {"labels": {"sensitivity": "high"}}})).json()["data"]
    assert (denied["allowed"], denied["reason"], denied["matched_policy_id"]) == (False, "denied_by_policy", made["id"])
    assert set(denied["matched_policies"]) == {made["id"], other["id"]}
    allowed = (await world.admin.post(path, json={**body, "resource": {"labels": {"sensitivity": "low"}}})).json()["data"]
    assert (allowed["allowed"], allowed["reason"], allowed["matched_policy_id"]) == (True, "allowed_by_policy", other["id"])
    neither = (
        await world.admin.post(
            path, json={**body, "principal": {"role": "editor"}, "resource": {"labels": {"sensitivity": "low"}}}
        )
    ).json()["data"]  # fmt: skip
    assert (neither["allowed"], neither["reason"], neither["matched_policies"]) == (False, "default_deny", [])
    unknown = (await world.admin.post(path, json=body)).json()["data"]
    assert not unknown["allowed"]
    assert "resource.labels.sensitivity" in str(unknown["trace"])
    for wrong in ({"resource_type": "planet"}, {"action": "fly"}, {"principal": []}, {"resource": "x"}, {"request": 1}):
        assert error_of(await world.admin.post(path, json=body | wrong)) == ("AUTHZ_SIMULATION_INVALID", 422)
    assert (await world.reader.get(f"/v1/documents/{world.secret}")).status_code == 200
    assert len(await audited(api, world.admin.tenant, "authz.simulation.run")) == 4
