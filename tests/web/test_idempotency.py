"""Idempotency: one effect per key, however the request is repeated, and nothing that crosses people or tenants."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from nexusrag.kernel.ids import new_id
from tests.support.api import Api, Person, error_of, parse_events
from tests.support.behind import Held, audited, count, rows
from tests.support.installation import serving

REPLAYED = "Idempotency-Replayed"
CONFLICT = ("IDEMPOTENCY_KEY_CONFLICT", 409)


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or new_id("idem")}


async def make(person: Person, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await person.post("/v1/corpora", json={"name": "Corpus", **body}, headers=headers)


async def test_a_repeated_request_gets_the_stored_answer_byte_for_byte(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    first = await make(editor, key)
    assert (first.status_code, REPLAYED in first.headers) == (201, False)
    again = await make(editor, key)
    assert (again.status_code, again.content, again.headers[REPLAYED]) == (201, first.content, "true")
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert again.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert len((await editor.get("/v1/corpora")).json()["data"]) == 1
    assert len(await audited(api, editor.tenant, "corpora.created")) == 1


@pytest.mark.slow
async def test_many_at_once_have_one_effect(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    corpus = await editor.corpus()
    body = {"corpus_id": corpus, "text": "Sent sixteen times at once."}
    answers = await asyncio.gather(*(editor.post("/v1/documents/text", json=body, headers=key) for _ in range(16)))
    done = [answer for answer in answers if answer.status_code == 202]
    assert len({answer.content for answer in done}) == 1
    assert sum(REPLAYED not in answer.headers for answer in done) == 1
    for answer in answers:
        if answer.status_code != 202:
            assert error_of(answer) == ("IDEMPOTENCY_IN_PROGRESS", 409)
            assert answer.headers["Retry-After"] == "1"
    for table in ("documents", "jobs", "idempotency_keys"):
        assert await count(api, f"select count(*) from {table} where tenant_id = $1", editor.tenant) == 1
    assert len(await audited(api, editor.tenant, "documents.ingest.enqueued")) == 1


async def test_a_key_whose_request_is_running_says_so(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    corpus = await editor.corpus()
    body = {"corpus_id": corpus, "text": "Slow at first."}
    async with Held(api, editor.tenant) as held:
        first = asyncio.create_task(editor.post("/v1/documents/text", json=body, headers=key))
        await held.waiting()
        second = await editor.post("/v1/documents/text", json=body, headers=key)
        assert error_of(second) == ("IDEMPOTENCY_IN_PROGRESS", 409)
        assert second.headers["Retry-After"] == "1"
    answer = await first
    assert answer.status_code == 202
    third = await editor.post("/v1/documents/text", json=body, headers=key)
    assert (third.content, third.headers[REPLAYED]) == (answer.content, "true")


async def test_a_crash_before_the_commit_leaves_nothing_and_the_key_free(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    corpus = await editor.corpus()
    body = {"corpus_id": corpus, "text": "Once and once only.", "document_id": "once"}
    async with Held(api, editor.tenant) as held:
        first = asyncio.create_task(editor.post("/v1/documents/text", json=body, headers=key))
        await rows(api, "select pg_terminate_backend($1)", await held.waiting())
        assert error_of(await first) == ("SERVICE_UNAVAILABLE", 503)
    for table in ("documents", "jobs", "idempotency_keys", "document_permissions"):
        assert await count(api, f"select count(*) from {table} where tenant_id = $1", editor.tenant) == 0
    again = await editor.post("/v1/documents/text", json=body, headers=key)
    assert (again.status_code, REPLAYED in again.headers) == (202, False)
    assert await count(api, "select count(*) from jobs where tenant_id = $1", editor.tenant) == 1


async def test_whoever_finds_the_key_used_at_the_end_takes_the_effect_back(api: Api) -> None:
    editor, key = await api.person("editor"), new_id("idem")
    body = {"corpus_id": await editor.corpus(), "text": "A moment too late."}
    async with Held(api, editor.tenant) as held:
        late = asyncio.create_task(editor.post("/v1/documents/text", json=body, headers=keyed(key)))
        await held.waiting()
        await rows(
            api,
            "insert into idempotency_keys (tenant_id, scope, key, fingerprint, status, expires_at) "
            "values ($1, $2, $3, '', 202, now() + interval '1 hour')",
            editor.tenant, editor.user_id, key,
        )  # fmt: skip
    assert error_of(await late) == ("IDEMPOTENCY_IN_PROGRESS", 409)
    for table in ("documents", "jobs"):
        assert await count(api, f"select count(*) from {table} where tenant_id = $1", editor.tenant) == 0


async def test_a_key_serves_one_request_only(api: Api) -> None:
    admin, key = await api.person(), keyed()
    corpus = (await make(admin, key)).json()["data"]["id"]
    assert error_of(await make(admin, key, visibility="tenant")) == CONFLICT
    assert error_of(await admin.patch(f"/v1/corpora/{corpus}", json={"name": "Corpus"}, headers=key)) == CONFLICT
    assert error_of(await admin.post("/v1/documents/text", json={"corpus_id": corpus, "text": "x"}, headers=key)) == CONFLICT
    assert error_of(await admin.post("/v1/corpora?a=b", json={"name": "Corpus"}, headers=key)) == CONFLICT
    assert error_of(await admin.delete(f"/v1/corpora/{corpus}", headers=key)) == CONFLICT
    assert len((await admin.get("/v1/corpora")).json()["data"]) == 1


async def test_spelling_of_json_does_not_matter(api: Api) -> None:
    editor, key = await api.person("editor"), {"Content-Type": "application/json", **keyed()}
    first = await editor.post("/v1/corpora", content=b'{"name":"\\u00fc","visibility":"tenant"}', headers=key)
    for body in (
        '{ "visibility" : "tenant",\n "name" : "ü" }'.encode(),
        json.dumps({"visibility": "tenant", "name": "ü"}, indent=4).encode(),
    ):
        again = await editor.post("/v1/corpora", content=body, headers=key)
        assert (again.content, again.headers[REPLAYED]) == (first.content, "true")


async def test_a_file_counts_by_its_content_and_not_by_the_boundary(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    corpus = await editor.corpus()

    async def send(content: bytes, name: str = "a.txt", **fields: str) -> httpx.Response:
        # httpx makes a new boundary each time.
        return await editor.post("/v1/documents", data={"corpus_id": corpus, **fields}, files={"file": (name, content)}, headers=key)

    first = await send(b"The same bytes.")
    again = await send(b"The same bytes.")
    assert (first.status_code, again.content, again.headers[REPLAYED]) == (202, first.content, "true")
    for other in (await send(b"Other bytes."), await send(b"The same bytes.", "b.txt"), await send(b"The same bytes.", overwrite="true")):
        assert error_of(other) == CONFLICT


@pytest.mark.parametrize("key", ["k" * 128, "a b", "~!@#$%^&*()", " x".strip()])
async def test_up_to_128_printable_characters_are_a_key(api: Api, key: str) -> None:
    editor = await api.person("editor")
    first = await make(editor, keyed(key))
    assert (await make(editor, keyed(key))).content == first.content


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Idempotency-Key", b"k" * 129)],
        [(b"Idempotency-Key", b"")],
        [(b"Idempotency-Key", "schlüssel".encode())],
        [(b"Idempotency-Key", b"a\tb")],
        [(b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"a")],
        [(b"Idempotency-Key", b"a"), (b"idempotency-key", b"b")],
    ],
    ids=["129", "empty", "not ASCII", "control", "twice", "two"],
)
async def test_anything_else_is_no_key_and_has_no_effect(api: Api, headers: list[tuple[bytes, bytes]]) -> None:
    editor = await api.person("editor")
    assert error_of(await editor.post("/v1/corpora", json={"name": "x"}, headers=headers)) == ("IDEMPOTENCY_KEY_INVALID", 400)
    assert (await editor.get("/v1/corpora")).json()["data"] == []


async def test_the_console_may_send_the_key_in_the_body(api: Api) -> None:
    editor = await api.person("editor")
    document = await editor.text(await editor.corpus(), "Reindexed from the console.")
    body = {"document_id": document, "idempotency_key": new_id("idem")}
    first = await editor.post("/v1/ui/actions/reindex-document", json=body)
    again = await editor.post("/v1/ui/actions/reindex-document", json=body)
    assert (first.status_code, again.content, again.headers[REPLAYED]) == (202, first.content, "true")
    empty = await editor.post("/v1/ui/actions/reindex-document", json={**body, "idempotency_key": ""})
    assert error_of(empty) == ("IDEMPOTENCY_KEY_INVALID", 400)


async def test_keys_of_other_people_and_tenants_are_other_keys(api: Api) -> None:
    one, key = await api.person("editor"), keyed("shared")
    colleague, stranger = await api.person("editor", one.tenant), await api.person("editor")
    answers = [await make(person, key, name=person.user_id) for person in (one, colleague, stranger)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert not any(REPLAYED in answer.headers for answer in answers)


async def test_a_refused_request_does_not_use_up_its_key(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    assert error_of(await make(editor, key, visibility="public"))[1] == 422
    assert error_of(await editor.post("/v1/documents/text", json={"corpus_id": "nope", "text": "x"}, headers=key))[1] == 404
    assert await count(api, "select count(*) from idempotency_keys where tenant_id = $1", editor.tenant) == 0
    assert (await make(editor, key)).status_code == 201


async def test_a_replay_after_the_deletion_recreates_nothing(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    corpus = await editor.corpus()
    body = {"corpus_id": corpus, "text": "Soon to be gone.", "document_id": "gone"}
    first = await editor.post("/v1/documents/text", json=body, headers=key)
    await editor.settled("gone")
    assert (await editor.delete("/v1/documents/gone")).status_code == 204
    again = await editor.post("/v1/documents/text", json=body, headers=key)
    assert (again.content, again.headers[REPLAYED]) == (first.content, "true")
    assert error_of(await editor.get("/v1/documents/gone")) == ("NOT_FOUND", 404)


async def test_a_repeated_deletion_gets_its_answer_though_nothing_is_left_to_find(api: Api) -> None:
    admin, on_document, on_corpus = await api.person(), keyed(), keyed()
    corpus = await admin.corpus()
    document = await admin.text(corpus, "Deleted once, asked for twice.")
    for path, key, status in ((f"/v1/documents/{document}", on_document, 204), (f"/v1/corpora/{corpus}", on_corpus, 202)):
        first = await admin.delete(path, headers=key)
        again = await admin.delete(path, headers=key)
        assert (first.status_code, again.status_code, again.content) == (status, status, first.content)
        assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert len(await audited(api, admin.tenant, "documents.deleted")) == 1
    assert await count(api, "select count(*) from jobs where tenant_id = $1 and kind = 'corpus.remove'", admin.tenant) == 1


async def test_a_repeated_deletion_is_answered_to_its_author_alone(api: Api) -> None:
    editor, key, gone = await api.person("editor"), keyed(), ("NOT_FOUND", 404)
    colleague, stranger = await api.person("editor", editor.tenant), await api.person("editor")
    corpus = await editor.corpus()
    path = f"/v1/documents/{await editor.text(corpus, 'Once mine.')}"
    assert (await editor.delete(path, headers=key)).status_code == 204
    for person, headers in ((colleague, key), (stranger, key), (editor, keyed()), (editor, {})):
        assert error_of(await person.delete(path, headers=headers)) == gone
    assert error_of(await editor.delete(f"{path}x", headers=key)) == gone
    assert error_of(await editor.post(f"{path}/reindex", headers=key)) == gone
    await rows(api, "update idempotency_keys set expires_at = now() - interval '1 second' where tenant_id = $1", editor.tenant)
    assert error_of(await editor.delete(path, headers=key)) == gone


async def test_a_replay_stands_behind_the_permissions(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    document = await editor.text(await editor.corpus(), "No longer yours.")
    assert (await editor.post(f"/v1/documents/{document}/reindex", headers=key)).status_code == 202
    await editor.settled(document)
    await rows(api, "delete from document_permissions where tenant_id = $1", editor.tenant)
    assert error_of(await editor.post(f"/v1/documents/{document}/reindex", headers=key)) == ("NOT_FOUND", 404)


async def test_an_expired_answer_is_not_replayed(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    first = await make(editor, key)
    await rows(api, "update idempotency_keys set expires_at = now() - interval '1 second' where tenant_id = $1", editor.tenant)
    again = await make(editor, key, name="Another")
    assert (again.status_code, REPLAYED in again.headers, again.content != first.content) == (201, False, True)
    assert (await make(editor, key, name="Another")).content == again.content


async def test_a_key_leads_back_to_the_same_run(api: Api) -> None:
    person, key = await api.person(), keyed()
    corpus = await person.corpus()
    await person.text(corpus, "The answer is kept in the journal.")
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "Where is the answer kept?"}
    first = await person.post("/v1/run", json=body, headers=key)
    again = await person.post("/v1/run", json=body, headers=key)
    assert parse_events(first.text)[-1].type == "done"
    assert (again.content, again.headers[REPLAYED]) == (first.content, "true")
    assert await count(api, "select count(*) from runs where tenant_id = $1", person.tenant) == 1
    assert error_of(await person.post("/v1/run", json={**body, "message": "Something else?"}, headers=key)) == CONFLICT


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({"metadata_json": {"n": 1}}, {"metadata_json": {"n": 1.0}}),
        ({"filename": "\u00fc.txt"}, {"filename": "u\u0308.txt"}),
        ({"overwrite": False}, {}),
    ],
    ids=["1 and 1.0", "NFC and NFD", "a default left out"],
)
async def test_what_is_written_otherwise_is_another_request(api: Api, first: dict[str, Any], other: dict[str, Any]) -> None:
    editor, key = await api.person("editor"), keyed()
    body = {"corpus_id": await editor.corpus(), "text": "The same words."}
    assert (await editor.post("/v1/documents/text", json={**body, **first}, headers=key)).status_code == 202
    assert error_of(await editor.post("/v1/documents/text", json={**body, **other}, headers=key)) == CONFLICT


async def test_a_body_with_a_name_given_twice_is_no_request_at_all(api: Api) -> None:
    editor, key = await api.person("editor"), {"Content-Type": "application/json", **keyed()}
    twice = await editor.post("/v1/corpora", content=b'{"name": "one", "name": "two"}', headers=key)
    assert error_of(twice) == ("VALIDATION_ERROR", 422)
    assert (await editor.post("/v1/corpora", content=b'{"name": "two"}', headers=key)).status_code == 201


async def test_a_file_and_its_text_are_other_requests(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    body = {"corpus_id": await editor.corpus(), "text": "As text.", "filename": "a.txt"}
    assert (await editor.post("/v1/documents/text", json=body, headers=key)).status_code == 202
    file = {"file": ("a.txt", b"As text.")}
    assert error_of(await editor.post("/v1/documents", data={"corpus_id": body["corpus_id"]}, files=file, headers=key)) == CONFLICT


async def test_nobody_whose_role_was_taken_away_gets_the_stored_answer(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    first = await make(editor, key)
    admin = await api.person("admin", editor.tenant)
    lowered = await admin.patch(f"/v1/admin/identity/users/{editor.user_id}/role", json={"role": "reader"})
    assert lowered.status_code == 200, lowered.text
    again = await make(editor, key)
    assert (first.status_code, error_of(again)) == (201, ("AUTH_FORBIDDEN", 403))


async def test_two_runs_at_once_with_one_key_are_one(api: Api) -> None:
    person, key = await api.person(), keyed()
    corpus = await person.corpus()
    await person.text(corpus, "Asked twice in the same moment.")
    body = {"session_id": new_id("s"), "corpus_id": corpus, "message": "How often was it asked?"}
    answers = await asyncio.gather(*(person.post("/v1/run", json=body, headers=key) for _ in range(4)))
    streams = [answer for answer in answers if answer.status_code == 200]
    assert len({answer.content for answer in streams}) == 1
    assert sum(REPLAYED not in answer.headers for answer in streams) == 1
    assert all(error_of(answer) == ("IDEMPOTENCY_IN_PROGRESS", 409) for answer in answers if answer.status_code != 200)
    assert await count(api, "select count(*) from runs where tenant_id = $1", person.tenant) == 1
    assert await count(api, "select count(*) from ledger where tenant_id = $1 and route_class = 'run'", person.tenant) == 1


async def test_a_key_that_expires_while_old_keys_are_removed_has_one_effect_more(api: Api) -> None:
    """At the boundary the answer is forgotten, and whoever comes then is the first: alone, and remembered."""
    editor, key = await api.person("editor"), new_id("idem")
    body = {"corpus_id": await editor.corpus(), "text": "Sent again a day later."}
    assert (await editor.post("/v1/documents/text", json=body, headers=keyed(key))).status_code == 202
    await rows(api, "update idempotency_keys set expires_at = now() where tenant_id = $1", editor.tenant)
    async with Held(api, editor.tenant) as held:
        late = asyncio.create_task(editor.post("/v1/documents/text", json=body, headers=keyed(key)))
        await held.waiting()
        await rows(api, "select idempotency_prune(interval '0', 100000)")
        assert await count(api, "select count(*) from idempotency_keys where tenant_id = $1", editor.tenant) == 0
        other = await editor.post("/v1/documents/text", json=body, headers=keyed(key))
        assert error_of(other) == ("IDEMPOTENCY_IN_PROGRESS", 409)
    done = await late
    assert (done.status_code, REPLAYED in done.headers) == (202, False)
    await rows(api, "select idempotency_prune(interval '0', 100000)")
    again = await editor.post("/v1/documents/text", json=body, headers=keyed(key))
    assert (again.content, again.headers[REPLAYED]) == (done.content, "true")
    assert await count(api, "select count(*) from documents where tenant_id = $1", editor.tenant) == 2


async def test_a_request_that_comes_too_often_uses_up_no_key(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    slow = api.servers.with_env(RATE_LIMIT_ENABLED="true", RL_KEY_MUTATION_BURST="1", RL_KEY_MUTATION_RPS="0.01")
    async with serving(slow) as (_, url), editor.at(url) as there:
        assert (await make(there, keyed())).status_code == 201
        assert error_of(await make(there, key)) == ("RATE_LIMITED", 429)
    assert await count(api, "select count(*) from idempotency_keys where tenant_id = $1", editor.tenant) == 1
    done = await make(editor, key)
    assert (done.status_code, REPLAYED in done.headers) == (201, False)


async def test_a_request_beyond_the_quota_uses_up_no_key(api: Api) -> None:
    editor, key = await api.person("editor"), keyed()
    await rows(api, "insert into quota_limits (tenant_id, daily_requests_limit, hard_cap_enabled) values ($1, 1, true)", editor.tenant)
    assert (await make(editor, keyed())).status_code == 201
    assert error_of(await make(editor, key)) == ("QUOTA_EXCEEDED", 402)
    assert await count(api, "select count(*) from idempotency_keys where tenant_id = $1", editor.tenant) == 1
