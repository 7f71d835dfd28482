"""What goes on record: the right event with the right outcome, in the transaction of the act, and never a word of content."""

import asyncio
from typing import Any

import pytest

from nexusrag.identity.api_keys.provision import revoke_key
from tests.support.api import Api, Person, error_of
from tests.support.behind import audited, rows

CANARY = "Quetzalcoatl"


async def one(api: Api, person: Person, event: str, **expected: Any) -> dict[str, Any]:
    """The one event of its type in the person's tenant, by that person."""
    found = await audited(api, person.tenant, event)
    assert len(found) == 1, (event, found)
    row = found[0]
    assert {name: row[name] for name in expected} == expected
    return row


async def test_making_and_revoking_a_key_is_recorded(api: Api) -> None:
    person = await api.person()
    await one(api, person, "auth.api_key.created", outcome="success", actor_type="cli", resource_type="api_key", resource_id=person.key_id)
    connection = await api.servers.admin()
    await revoke_key(connection, person.tenant, person.key_id)
    await connection.close()
    await one(api, person, "auth.api_key.revoked", outcome="success", resource_id=person.key_id)


async def test_the_first_use_of_a_key_is_recorded(api: Api) -> None:
    person = await api.person()
    for _ in range(3):
        await person.get("/v1/corpora", headers={"X-Request-Id": "first-use"})
    async with asyncio.timeout(5):
        while not await audited(api, person.tenant, "auth.access.success"):
            await asyncio.sleep(0.02)
    await one(
        api, person, "auth.access.success", actor_id=person.key_id, actor_role="admin", request_id="first-use", ip_address="127.0.0.1"
    )


async def test_a_refused_role_is_recorded(api: Api) -> None:
    reader = await api.person("reader")
    answer = await reader.post("/v1/corpora", json={"name": CANARY}, headers={"X-Request-Id": "denied-1", "User-Agent": "test/1"})
    assert error_of(answer) == ("AUTH_FORBIDDEN", 403)
    row = await one(
        api, reader, "rbac.forbidden", outcome="failure", error_code="AUTH_FORBIDDEN", actor_id=reader.key_id, actor_role="reader",
        request_id="denied-1", user_agent="test/1",
    )  # fmt: skip
    assert '"/v1/corpora"' in row["metadata"]


async def test_a_refused_document_is_recorded(api: Api) -> None:
    editor = await api.person("editor")
    document = await editor.text(await editor.corpus(), f"About {CANARY}.")
    admin = await api.person("admin", editor.tenant)
    assert error_of(await admin.get(f"/v1/documents/{document}", headers={"X-Request-Id": "denied-2"})) == ("AUTHZ_DENIED", 403)
    await one(
        api, editor, "authz.access.denied", outcome="failure", error_code="AUTHZ_DENIED", actor_id=admin.key_id, resource_type="document",
        resource_id=document, request_id="denied-2",
    )  # fmt: skip


async def test_a_refused_credential_is_recorded_without_a_tenant(api: Api) -> None:
    person = await api.person()
    wrong = person.key[:-1] + ("a" if person.key[-1] != "a" else "b")
    async with asyncio.timeout(10):  # a flood of failures is sampled, so one may have to be repeated
        while True:
            await api.anonymous().get(
                "/v1/corpora", headers={"Authorization": f"Bearer {wrong}", "X-Request-Id": f"bad-{person.key_id}"[:64]}
            )
            found = await rows(api, "select * from audit_events where request_id = $1", f"bad-{person.key_id}"[:64])
            if found:
                break
            await asyncio.sleep(0.2)
    assert (found[0]["tenant_id"], found[0]["actor_type"], found[0]["event_type"]) == (None, "anonymous", "auth.access.failure")
    assert (found[0]["outcome"], found[0]["error_code"]) == ("failure", "AUTH_UNAUTHORIZED")
    assert wrong not in str(found)


async def test_a_flood_of_bad_keys_does_not_fill_the_log(api: Api) -> None:
    client = api.anonymous()
    before = await rows(api, "select count(*) as n from audit_events where tenant_id is null")
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(client.get("/v1/corpora") for _ in range(200)))
    seconds = asyncio.get_running_loop().time() - began
    after = await rows(api, "select count(*) as n from audit_events where tenant_id is null")
    assert after[0]["n"] - before[0]["n"] <= 10 * (int(seconds) + 2)


async def test_a_flood_hides_no_attempt_with_a_key_of_ours(api: Api) -> None:
    person = await api.person()
    assert (await person.post(f"/v1/self-serve/api-keys/{person.key_id}/revoke")).status_code == 200
    stranger = api.anonymous()
    for _ in range(2):
        await asyncio.gather(*(stranger.get("/v1/corpora") for _ in range(30)))
        assert error_of(await person.get("/v1/corpora")) == ("AUTH_REVOKED_KEY", 401)
    assert len(await audited(api, person.tenant, "auth.access.failure")) == 2


@pytest.mark.slow
async def test_the_life_of_a_document_is_recorded(api: Api) -> None:
    editor = await api.person("editor")
    corpus = (await editor.post("/v1/corpora", json={"name": CANARY}, headers={"X-Request-Id": "life-1"})).json()["data"]["id"]
    body = {
        "corpus_id": corpus,
        "text": f"{CANARY} lives here.",
        "document_id": "d",
        "filename": f"{CANARY}.txt",
        "metadata_json": {"a": CANARY},
    }
    await editor.post("/v1/documents/text", json=body, headers={"X-Request-Id": "life-2"})
    await editor.settled("d")
    await editor.post("/v1/documents/d/reindex", headers={"X-Request-Id": "life-3"})
    await editor.settled("d")
    await editor.patch(f"/v1/corpora/{corpus}", json={"name": f"New {CANARY}"}, headers={"X-Request-Id": "life-4"})
    await editor.delete("/v1/documents/d", headers={"X-Request-Id": "life-5"})
    by = {"actor_type": "api_key", "actor_id": editor.key_id, "actor_role": "editor", "outcome": "success", "error_code": None}
    await one(api, editor, "corpora.created", request_id="life-1", resource_type="corpus", resource_id=corpus, **by)
    upload = await one(api, editor, "documents.ingest.enqueued", request_id="life-2", resource_type="document", resource_id="d", **by)
    await one(api, editor, "documents.reindex.enqueued", request_id="life-3", resource_type="document", resource_id="d", **by)
    changed = await one(api, editor, "corpora.updated", request_id="life-4", resource_type="corpus", resource_id=corpus, **by)
    await one(api, editor, "documents.deleted", request_id="life-5", resource_type="document", resource_id="d", **by)
    assert f'"corpus_id": "{corpus}"' in upload["metadata"]
    assert '"changed": ["name"]' in changed["metadata"]
    everything = await rows(api, "select * from audit_events where tenant_id = $1", editor.tenant)
    assert CANARY not in str(everything)


@pytest.mark.slow
async def test_a_run_is_recorded_without_its_question(api: Api) -> None:
    person = await api.person()
    corpus = await person.corpus()
    await person.text(corpus, f"The feathered serpent is called {CANARY}.")
    events = await person.run(corpus, f"Who is {CANARY}?", headers={"X-Request-Id": "run-1"})
    run_id = (events[0].id or "").partition(".")[0]
    row = await one(
        api, person, "run.invoked", outcome="success", request_id="run-1", resource_type="run", resource_id=run_id, actor_id=person.key_id
    )
    assert CANARY not in str(row)
    assert f'"corpus_id": "{corpus}"' in row["metadata"]


async def test_a_look_at_operations_is_recorded(api: Api) -> None:
    admin = await api.person()
    for path in ("/v1/ops/health", "/v1/ops/ingestion"):
        await admin.get(path, headers={"X-Request-Id": "ops-view"})
    found = await audited(api, admin.tenant, "ops.viewed")
    assert [(row["outcome"], row["request_id"], row["actor_id"]) for row in found] == [("success", "ops-view", admin.key_id)] * 2


async def test_what_is_refused_or_rolled_back_leaves_no_event_of_success(api: Api) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus()
    for body in ({"corpus_id": corpus, "text": ""}, {"corpus_id": "nope", "text": "x"}, {"corpus_id": corpus}):
        assert (await editor.post("/v1/documents/text", json=body)).is_client_error
    assert await audited(api, editor.tenant, "documents.ingest.enqueued") == []


async def test_an_upload_that_changes_nothing_is_not_recorded_as_enqueued(api: Api) -> None:
    editor = await api.person("editor")
    corpus = await editor.corpus()
    for _ in range(3):
        await editor.text(corpus, "As it was.", document_id="same")
    await one(api, editor, "documents.ingest.enqueued")


async def test_a_replay_is_not_recorded_twice(api: Api) -> None:
    editor = await api.person("editor")
    for _ in range(3):
        await editor.post("/v1/corpora", json={"name": "x"}, headers={"Idempotency-Key": "once"})
    await one(api, editor, "corpora.created")
