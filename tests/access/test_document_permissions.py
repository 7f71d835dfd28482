"""Who may do what with a document: owners all, others what they were granted, and admins no more unless the installation says so."""

import re
from typing import Any

import pytest
from sqlalchemy import select

from nexusrag.kernel.actions import Permission
from nexusrag.knowledge.documents.models import Document
from nexusrag.knowledge.visibility import Shape, condition
from tests.support.api import Api, Person, error_of
from tests.support.behind import count, grant, rows
from tests.support.installation import Servers, serving

TEXT = "The cellar door opens with the brass key."
QUESTION = "What opens the cellar door?"
MISSING, DENIED = ("NOT_FOUND", 404), ("AUTHZ_DENIED", 403)


@pytest.fixture
async def owner(api: Api) -> Person:
    return await api.person("editor")


@pytest.fixture
async def corpus(owner: Person) -> str:
    return await owner.corpus()


@pytest.fixture
async def document(owner: Person, corpus: str) -> str:
    return await owner.text(corpus, TEXT)


async def sees(person: Person, corpus: str, document: str) -> set[str]:
    """The places in which `person` meets the document or its words."""
    met = set()
    if (await person.get(f"/v1/documents/{document}")).status_code == 200:
        met.add("document")
    if any(row["id"] == document for row in (await person.get("/v1/documents")).json()["data"]):
        met.add("list")
    if any(row["id"] == document for row in (await person.get("/v1/documents", params={"corpus_id": corpus})).json()["data"]):
        met.add("corpus list")
    console: Any = (await person.get("/v1/ui/documents", params={"corpus_id": corpus})).json()["data"]
    if console["items"]:
        met.add("console")
    if console["facets"]["status"]:
        met.add("counts")
    if await person.search(corpus, QUESTION):
        met.add("search")
    if await person.search(corpus, QUESTION, document_ids=[document]):
        met.add("search by id")
    events = await person.run(corpus, QUESTION)
    assert events[-1].type == "done"
    if any("brass" in event.raw for event in events):
        met.add("run")
    return met


EVERYWHERE = {"document", "list", "corpus list", "console", "counts", "search", "search by id", "run"}


async def test_the_owner_meets_their_document_everywhere_without_any_policy(owner: Person, corpus: str, document: str) -> None:
    assert await sees(owner, corpus, document) == EVERYWHERE


@pytest.mark.slow
async def test_a_member_without_a_grant_meets_it_nowhere(api: Api, owner: Person, corpus: str, document: str) -> None:
    for role in ("reader", "editor"):
        assert await sees(await api.person(role, owner.tenant), corpus, document) == set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["user", "api_key", "role"])
async def test_a_grant_reaches_whoever_it_names(api: Api, owner: Person, corpus: str, document: str, kind: str) -> None:
    named, other = await api.person("editor", owner.tenant), await api.person("reader", owner.tenant)
    await grant(api, owner, document, (kind, {"user": named.user_id, "api_key": named.key_id, "role": "editor"}[kind]))
    assert await sees(named, corpus, document) == EVERYWHERE
    assert await sees(other, corpus, document) == set()


@pytest.mark.slow
async def test_a_grant_that_has_expired_counts_for_nothing(api: Api, owner: Person, corpus: str, document: str) -> None:
    reader, late = await api.person("reader", owner.tenant), await api.person("reader", owner.tenant)
    await grant(api, owner, document, ("user", reader.user_id), for_s=3600)
    await grant(api, owner, document, ("user", late.user_id), for_s=-0.001)
    assert await sees(reader, corpus, document) == EVERYWHERE
    assert await sees(late, corpus, document) == set()


async def test_a_grant_taken_back_is_gone_with_the_next_request(api: Api, owner: Person, corpus: str, document: str) -> None:
    reader = await api.person("reader", owner.tenant)
    await grant(api, owner, document, ("user", reader.user_id))
    assert len(await reader.search(corpus, QUESTION)) == 1
    await rows(api, "delete from document_permissions where tenant_id = $1 and principal_id = $2", owner.tenant, reader.user_id)
    assert await reader.search(corpus, QUESTION) == []


async def test_a_grant_in_another_tenant_grants_nothing_here(api: Api, owner: Person, corpus: str) -> None:
    other = await api.person("editor")
    document = await owner.text(corpus, TEXT, document_id="twin")
    await other.text(await other.corpus(), "Another text.", document_id="twin")
    await grant(api, other, "twin", ("user", owner.user_id))
    reader = await api.person("reader", owner.tenant)
    await grant(api, other, "twin", ("user", reader.user_id))
    assert error_of(await reader.get(f"/v1/documents/{document}")) == MISSING


@pytest.mark.slow
async def test_a_corpus_open_to_the_tenant_is_read_by_every_member_and_written_by_none(api: Api, owner: Person) -> None:
    corpus = await owner.corpus("tenant")
    document = await owner.text(corpus, TEXT)
    reader, editor = await api.person("reader", owner.tenant), await api.person("editor", owner.tenant)
    assert await sees(reader, corpus, document) == EVERYWHERE
    assert error_of(await editor.delete(f"/v1/documents/{document}")) == DENIED
    assert error_of(await editor.post(f"/v1/documents/{document}/reindex")) == DENIED
    admin = await api.person("admin", owner.tenant)
    assert (await admin.patch(f"/v1/corpora/{corpus}", json={"visibility": "restricted"})).status_code == 200
    assert await sees(reader, corpus, document) == set()


@pytest.mark.parametrize(
    ("permission", "allowed"),
    [("read", {"read"}), ("write", set()), ("delete", {"delete"}), ("reindex", {"reindex"}), ("owner", {"read", "reindex", "delete"})],
)
async def test_a_permission_allows_what_it_says(api: Api, owner: Person, document: str, permission: str, allowed: set[str]) -> None:
    editor = await api.person("editor", owner.tenant)
    await grant(api, owner, document, ("user", editor.user_id), permission)
    done = set()
    # What may not be read is not found, whatever else was granted on it.
    for name, answer in (
        ("read", await editor.get(f"/v1/documents/{document}")),
        ("reindex", await editor.post(f"/v1/documents/{document}/reindex")),
        ("delete", (await owner.settled(document), await editor.delete(f"/v1/documents/{document}"))[1]),
    ):
        if answer.is_success:
            done.add(name)
        else:
            assert error_of(answer) in (MISSING, DENIED)
    assert done <= allowed
    if permission in ("read", "owner"):
        assert done == allowed


async def test_a_role_that_is_too_low_is_not_lifted_by_a_grant(api: Api, owner: Person, document: str) -> None:
    reader = await api.person("reader", owner.tenant)
    await grant(api, owner, document, ("user", reader.user_id), "owner")
    assert error_of(await reader.delete(f"/v1/documents/{document}")) == ("AUTH_FORBIDDEN", 403)


@pytest.mark.slow
async def test_an_admin_without_a_grant_is_told_no(api: Api, owner: Person, corpus: str, document: str) -> None:
    admin = await api.person("admin", owner.tenant)
    for answer in (
        await admin.get(f"/v1/documents/{document}"),
        await admin.delete(f"/v1/documents/{document}"),
        await admin.post(f"/v1/documents/{document}/reindex"),
        await admin.post("/v1/ui/actions/reindex-document", json={"document_id": document}),
    ):
        assert error_of(answer) == DENIED
    assert await sees(admin, corpus, document) == set()
    assert error_of(await admin.get("/v1/documents/nope")) == MISSING


@pytest.mark.slow
async def test_an_installation_may_let_its_admins_reach_every_document(servers: Servers, api: Api, owner: Person) -> None:
    corpus = await owner.corpus()
    document = await owner.text(corpus, TEXT)
    async with serving(servers.with_env(AUTHZ_ADMIN_BYPASS_DOCUMENT_ACL="true")) as (app, url):
        open_api = Api(servers, app, url)
        admin, editor = await open_api.person("admin", owner.tenant), await open_api.person("editor", owner.tenant)
        foreign = await open_api.person("admin")
        assert await sees(admin, corpus, document) == EVERYWHERE
        assert await sees(editor, corpus, document) == set()
        assert error_of(await foreign.get(f"/v1/documents/{document}")) == MISSING
        assert (await admin.delete(f"/v1/documents/{document}")).status_code == 204
        await open_api.close()


async def test_only_whoever_may_write_replaces_a_document(api: Api, owner: Person, corpus: str) -> None:
    editor = await api.person("editor", owner.tenant)
    await owner.text(corpus, TEXT, document_id="mine")
    body = {"corpus_id": corpus, "text": "Replaced.", "document_id": "mine", "overwrite": True}
    for granted in (None, "read"):
        if granted:
            await grant(api, owner, "mine", ("user", editor.user_id), granted)
        assert error_of(await editor.post("/v1/documents/text", json=body)) == ("CONFLICT", 409)
        assert error_of(await editor.post("/v1/documents/text", json={**body, "overwrite": False})) == ("CONFLICT", 409)
    assert [passage["text"] for passage in await owner.search(corpus, QUESTION)] == [TEXT]
    await grant(api, owner, "mine", ("user", editor.user_id), "write")
    assert (await editor.post("/v1/documents/text", json=body)).status_code == 202
    await owner.settled("mine")
    # Replacing a document does not make it one's own.
    assert await count(api, "select count(*) from document_permissions where tenant_id = $1 and permission = 'owner'", owner.tenant) == 1


def test_the_groups_of_a_caller_are_looked_up_once_for_a_statement() -> None:
    """Joined with the documents they would be as many rows as both together, each time."""
    asked = select(Document.id).where(condition(Shape(Permission.READ, "policy_values", open=False, allow=False, deny=False)))
    lookups = re.findall(r"SELECT group_members.group_id\s+FROM (.*?)\s+WHERE", str(asked))
    assert lookups == ["group_members", "group_members"]
