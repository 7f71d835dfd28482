"""The console's documents: pages that neither skip nor repeat, cursors good for one listing, counts of what may be seen."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.api import Api, Person, error_of
from tests.support.behind import count, rows
from tests.support.installation import Servers, serving

BAD_CURSOR, BAD_REQUEST, INVALID = ("INVALID_CURSOR", 400), ("BAD_REQUEST", 400), ("VALIDATION_ERROR", 422)


@pytest.fixture(scope="module")
async def idle(servers: Servers) -> AsyncIterator[Api]:
    """An API whose queue nobody works on: documents stay as they are."""
    async with serving(servers.with_env(INGEST_QUEUE_NAME="idle")) as (app, url):
        api = Api(servers, app, url)
        yield api
        await api.close()


@pytest.fixture(scope="module")
async def shelf(idle: Api) -> tuple[Person, str]:
    """Twenty-three documents; names come in threes, and so do moments of creation."""
    editor = await idle.person("editor")
    corpus = await editor.corpus()
    for number in range(23):
        await editor.text(corpus, f"Text {number}.", document_id=f"d{number:02}", filename=f"{'cab'[number % 3]}.txt", wait=False)
    # As triples that were made at the same moment.
    await rows(
        idle,
        "update documents set created_at = timestamptz '2026-01-01' + (right(id, 2)::int / 3) * interval '1 day' where tenant_id = $1",
        editor.tenant,
    )
    return editor, corpus


async def page(person: Person, **params: Any) -> dict[str, Any]:
    answer = await person.get("/v1/ui/documents", params={key: value for key, value in params.items() if value is not None})
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    assert data["page"]["has_more"] is (data["page"]["next_cursor"] is not None)
    return data


async def walk(person: Person, **params: Any) -> list[dict[str, Any]]:
    found, cursor = [], None
    while True:
        data = await page(person, cursor=cursor, **params)
        found += data["items"]
        cursor = data["page"]["next_cursor"]
        if cursor is None:
            return found


def sorted_by(items: list[dict[str, Any]], sort: str) -> list[str]:
    fields = sort.split(",")
    for field in reversed([*fields, ("-" if fields[-1].startswith("-") else "") + "id"]):
        name = field.removeprefix("-").replace("name", "filename").replace("filefilename", "filename")
        items = sorted(items, key=lambda item: item[name], reverse=field.startswith("-"))
    return [item["id"] for item in items]


SORTS = [
    "-created_at",
    "created_at",
    "filename",
    "-name",
    "-created_at,name",
    "name,-created_at",
    "status,-filename,created_at",
    "id",
    "-id",
]


@pytest.mark.slow
@pytest.mark.parametrize("sort", SORTS)
async def test_pages_of_any_size_equal_the_whole(shelf: tuple[Person, str], sort: str) -> None:
    person = shelf[0]
    whole = (await page(person, sort=sort, limit=100))["items"]
    assert len(whole) == 23
    assert [item["id"] for item in whole] == sorted_by(whole, sort)
    for limit in (1, 4, 22, 23):
        assert [item["id"] for item in await walk(person, sort=sort, limit=limit)] == [item["id"] for item in whole]


async def test_rows_that_stay_are_met_once_while_others_come_and_go(idle: Api) -> None:
    editor = await idle.person("editor")
    corpus = await editor.corpus()
    stable = [await editor.text(corpus, f"Stable {number}.", wait=False) for number in range(9)]
    passing = [await editor.text(corpus, f"Passing {number}.", wait=False) for number in range(3)]
    met, cursor = [], None
    for turn in range(20):
        data = await page(editor, limit=2, cursor=cursor)
        met += [item["id"] for item in data["items"]]
        cursor = data["page"]["next_cursor"]
        if cursor is None:
            break
        await editor.text(corpus, f"New {turn}.", wait=False)
        if passing:
            await rows(idle, "delete from documents where tenant_id = $1 and id = $2", editor.tenant, passing.pop())
    assert [one for one in met if one in stable] == stable[::-1]
    assert len(met) == len(set(met))


@pytest.mark.slow
async def test_a_cursor_with_any_character_changed_is_refused(shelf: tuple[Person, str]) -> None:
    cursor = (await page(shelf[0], limit=5))["page"]["next_cursor"]
    for place in range(len(cursor)):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        assert error_of(await shelf[0].get("/v1/ui/documents", params={"cursor": changed})) == BAD_CURSOR


async def test_a_cursor_is_good_for_its_own_listing_alone(idle: Api, shelf: tuple[Person, str]) -> None:
    person, corpus = shelf
    cursor = (await page(person, limit=5))["page"]["next_cursor"]
    assert (await person.get("/v1/ui/documents", params={"cursor": cursor, "limit": 9})).status_code == 200
    colleague, stranger = await idle.person("editor", person.tenant), await idle.person("editor")
    for other, params in (
        (person, {"sort": "created_at"}),
        (person, {"q": "a"}),
        (person, {"status": "queued"}),
        (person, {"corpus_id": corpus}),
        (person, {"created_from": "2026-01-01T00:00:00Z"}),
        (colleague, {}),
        (stranger, {}),
    ):
        assert error_of(await other.get("/v1/ui/documents", params={"cursor": cursor, **params})) == BAD_CURSOR
    assert error_of(await person.get("/v1/documents", params={"cursor": cursor})) == BAD_CURSOR
    listed = (await person.get("/v1/documents", params={"limit": 5})).json()["meta"]["page"]["next_cursor"]
    assert error_of(await person.get("/v1/ui/documents", params={"cursor": listed})) == BAD_CURSOR
    for forged in ("x", "A" * 5000, "bnVsbA", "W10", "%", "..."):
        assert error_of(await person.get("/v1/ui/documents", params={"cursor": forged})) == BAD_CURSOR


@pytest.mark.parametrize("limit", ["0", "101", "-1", "abc", "1.5", "1e1", ""])
async def test_a_limit_is_a_number_from_1_to_100(shelf: tuple[Person, str], limit: str) -> None:
    assert error_of(await shelf[0].get("/v1/ui/documents", params={"limit": limit})) == INVALID


@pytest.mark.parametrize(
    "sort", ["size", "--id", "tenant_id", "created_at;drop table documents", "id,id,id,id", "-", "created_at desc", "metadata"]
)
async def test_an_unknown_order_is_refused(shelf: tuple[Person, str], sort: str) -> None:
    assert error_of(await shelf[0].get("/v1/ui/documents", params={"sort": sort})) == BAD_REQUEST


async def test_twenty_five_at_a_time_newest_first_unless_asked_otherwise(shelf: tuple[Person, str]) -> None:
    data = await page(shelf[0])
    assert len(data["items"]) == 23
    assert [item["id"] for item in data["items"]] == sorted_by(data["items"], "-created_at")
    assert set(data["items"][0]) >= {"id", "filename", "status", "corpus_id", "created_at", "updated_at", "failure_reason"}


async def test_wildcards_of_like_are_letters_like_others(idle: Api) -> None:
    editor = await idle.person("editor")
    corpus = await editor.corpus()
    names = ["100%.txt", "100x.txt", "a_b.txt", "axb.txt", "back\\slash.txt", "Plain.TXT"]
    for number, name in enumerate(names):
        await editor.text(corpus, "x", document_id=f"id-{number}", wait=False)
        await rows(idle, "update documents set filename = $3 where tenant_id = $1 and id = $2", editor.tenant, f"id-{number}", name)
    for text, expected in (
        ("100%", {"100%.txt"}), ("%", {"100%.txt"}), ("a_b", {"a_b.txt"}), ("_", {"a_b.txt"}), ("\\", {"back\\slash.txt"}),
        ("plain", {"Plain.TXT"}), ("ID-3", {"axb.txt"}), ("nothing", set()), ("' or true --", set()),
    ):  # fmt: skip
        assert {item["filename"] for item in (await page(editor, q=text))["items"]} == expected, text


async def test_filters_narrow_the_page_and_counts_ignore_the_status(idle: Api, shelf: tuple[Person, str]) -> None:
    person, corpus = shelf
    other = await person.corpus()
    await person.text(other, "Elsewhere.", document_id="elsewhere", wait=False)
    await rows(idle, "update documents set status = 'failed' where tenant_id = $1 and id in ('d00', 'd01')", person.tenant)
    try:
        assert [item["id"] for item in (await page(person, status="failed", sort="id"))["items"]] == ["d00", "d01"]
        counts = [{"value": "failed", "count": 2}, {"value": "queued", "count": 21}]
        assert (await page(person, corpus_id=corpus))["facets"] == {"status": counts}
        assert (await page(person, corpus_id=corpus, status="failed", limit=1))["facets"] == {"status": counts}
        assert [item["id"] for item in (await page(person, corpus_id=other))["items"]] == ["elsewhere"]
        noon = datetime(2026, 1, 3, tzinfo=UTC)
        between = {"created_from": noon.isoformat(), "created_to": (noon + timedelta(hours=1)).isoformat()}
        assert [item["id"] for item in (await page(person, sort="id", **between))["items"]] == ["d06", "d07", "d08"]
        for name, value in (("status", "done"), ("created_from", "yesterday"), ("created_from", "2026-01-01T00:00:00"), ("q", "x" * 201)):
            assert error_of(await person.get("/v1/ui/documents", params={name: value})) == INVALID
    finally:
        await rows(idle, "update documents set status = 'queued' where tenant_id = $1", person.tenant)
        await rows(idle, "delete from documents where tenant_id = $1 and id = 'elsewhere'", person.tenant)


async def test_counts_and_pages_know_nothing_of_what_is_hidden(idle: Api) -> None:
    owner = await idle.person("editor")
    corpus = await owner.corpus()
    for number in range(4):
        await owner.text(corpus, "Hidden.", document_id=f"hidden-{number}", wait=False)
    reader = await idle.person("reader", owner.tenant)
    assert await page(reader) == {"items": [], "page": {"next_cursor": None, "has_more": False}, "facets": {"status": []}}
    await rows(
        idle,
        "insert into document_permissions (tenant_id, id, document_id, principal_type, principal_id, permission) "
        "values ($1, 'p', 'hidden-2', 'user', $2, 'read')",
        owner.tenant, reader.user_id,
    )  # fmt: skip
    data = await page(reader, limit=1)
    assert ([item["id"] for item in data["items"]], data["page"]["has_more"]) == (["hidden-2"], False)
    assert data["facets"] == {"status": [{"value": "queued", "count": 1}]}


@pytest.mark.slow
async def test_reindexing_shows_what_to_expect_and_where_the_truth_is(api: Api) -> None:
    editor = await api.person("editor")
    document = await editor.text(await editor.corpus(), "Reindex me.")
    answer = await editor.post("/v1/ui/actions/reindex-document", json={"document_id": document})
    action = answer.json()["data"]
    assert (answer.status_code, action["status"], action["poll_url"]) == (202, "accepted", f"/v1/documents/{document}")
    assert action["optimistic"] == {"entity": "document", "id": document, "patch": {"status": "queued"}}
    assert (await editor.settled(document))["last_job_id"] == action["action_id"]
    assert await count(api, "select count(*) from document_versions where tenant_id = $1", editor.tenant) == 2
    assert error_of(await editor.post("/v1/ui/actions/reindex-document", json={"document_id": "nope"})) == ("NOT_FOUND", 404)
    extra = await editor.post("/v1/ui/actions/reindex-document", json={"document_id": document, "force": True})
    assert error_of(extra) == INVALID
