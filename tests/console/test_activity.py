"""The console's activity: the tenant's log in pages that neither skip nor repeat, and in counts that follow the filters."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.api import Api, Person, error_of
from tests.support.behind import rows
from tests.support.installation import Servers, serving
from tests.support.walls import walled

PATH = "/v1/ui/activity"
BAD_CURSOR, INVALID = ("INVALID_CURSOR", 400), ("VALIDATION_ERROR", 422)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_EVENT = (
    "insert into audit_events (tenant_id, actor_type, actor_id, event_type, outcome, resource_type, resource_id, request_id, occurred_at, "
    "error_code) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
)


@pytest.fixture(scope="module")
async def log(servers: Servers) -> AsyncIterator[tuple[Api, Person]]:
    """A tenant with 23 events, three at a moment, besides those that its people cause."""
    async with serving(servers.with_env(INGEST_QUEUE_NAME="idle")) as (app, url):
        api = Api(servers, app, url)
        admin = await api.person()
        moment = datetime.now(UTC) - timedelta(seconds=10)  # the month before may have no partition
        for number in range(23):
            failed = number % 4 == 0
            await rows(
                api, _EVENT, admin.tenant, ("user", "api_key")[number % 2], f"actor-{number % 3}", f"test.kind_{number % 5}",
                "failure" if failed else "success", "thing", f"thing-{number:02}", f"req-{number}",
                moment + timedelta(seconds=number // 3), "AUTHZ_DENIED" if failed else None,
            )  # fmt: skip
        yield api, admin
        await api.close()


async def page(person: Person, **params: Any) -> dict[str, Any]:
    answer = await person.get(PATH, params={"q": "thing-", **{key: value for key, value in params.items() if value is not None}})
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    assert data["page"]["has_more"] is (data["page"]["next_cursor"] is not None)
    return data


async def walk(person: Person, **params: Any) -> list[int]:
    found, cursor = [], None
    while True:
        data = await page(person, cursor=cursor, **params)
        found += [item["id"] for item in data["items"]]
        cursor = data["page"]["next_cursor"]
        if cursor is None:
            return found


SORTS = ["-occurred_at", "occurred_at", "-created_at", "event_type", "-outcome,event_type", "actor_type,-occurred_at", "id", "-id"]


@pytest.mark.parametrize("sort", SORTS)
async def test_pages_of_any_size_equal_the_whole(log: tuple[Api, Person], sort: str) -> None:
    person = log[1]
    items = (await page(person, sort=sort, limit=100))["items"]
    assert len(items) == 23
    for field in reversed([*sort.split(","), "-id" if sort.split(",")[-1].startswith("-") else "id"]):
        name = field.removeprefix("-").replace("created_at", "occurred_at")
        items = sorted(items, key=lambda item: item[name], reverse=field.startswith("-"))
    whole = [item["id"] for item in items]
    for limit in (1, 4, 22, 23, 100):
        assert await walk(person, sort=sort, limit=limit) == whole


async def test_new_events_push_nothing_into_later_pages(log: tuple[Api, Person]) -> None:
    api, person = log
    first = await page(person, limit=10)
    await rows(api, _EVENT, person.tenant, "x", "x", "x", "success", "thing", "thing-new", "r", datetime.now(UTC), None)
    try:
        second = await page(person, limit=100, cursor=first["page"]["next_cursor"])
        met = [item["resource_id"] for item in (*first["items"], *second["items"])]
        assert len(met) == len(set(met)) == 23
    finally:
        await rows(api, "delete from audit_events where tenant_id = $1 and resource_id = 'thing-new'", person.tenant)


async def test_filters_narrow_the_page_and_each_facet_ignores_its_own(log: tuple[Api, Person]) -> None:
    person = log[1]
    data = await page(person, event_type="test.kind_0", actor_type="user")
    assert {(item["event_type"], item["actor_type"]) for item in data["items"]} == {("test.kind_0", "user")}
    assert len(data["items"]) == 3
    assert data["facets"]["event_type"] == [{"value": f"test.kind_{kind}", "count": count} for kind, count in enumerate((3, 2, 3, 2, 2))]
    assert data["facets"]["actor_type"] == [{"value": "api_key", "count": 2}, {"value": "user", "count": 3}]
    assert sum(one["count"] for one in data["facets"]["outcome"]) == 3
    assert (await page(person, event_type="test.kind"))["items"] == []
    item = (await page(person, q="thing-04"))["items"][0]
    assert item["summary"] == "user actor-1: test.kind_4 of thing thing-04, refused: AUTHZ_DENIED"
    assert (item["outcome"], item["error_code"], item["request_id"]) == ("failure", "AUTHZ_DENIED", "req-4")


async def test_a_span_of_time_includes_its_ends(log: tuple[Api, Person]) -> None:
    person = log[1]
    moments = sorted({item["occurred_at"] for item in (await page(person, limit=100))["items"]})
    between = {"created_from": moments[2], "created_to": moments[3]}
    assert len((await page(person, **between))["items"]) == 6
    assert (await page(person, created_from=moments[3], created_to=moments[2]))["items"] == []


@pytest.mark.parametrize(("q", "number"), [("kind_", 23), ("KIND_1", 5), ("%", 0), ("actor-2", 7), ("req-1", 11), ("' or true --", 0)])
async def test_what_is_searched_for_are_letters_and_no_patterns(log: tuple[Api, Person], q: str, number: int) -> None:
    found = (await page(log[1], q=q, limit=100))["items"]
    assert len([item for item in found if (item["resource_id"] or "").startswith("thing-")]) == number


async def test_a_cursor_is_good_for_its_own_listing_alone(log: tuple[Api, Person]) -> None:
    api, person = log
    cursor = (await page(person, limit=5))["page"]["next_cursor"]
    colleague, stranger = await api.person("admin", person.tenant), await api.person()
    assert (await person.get(PATH, params={"q": "thing-", "cursor": cursor, "limit": 9})).status_code == 200
    for other, params in (
        (person, {"sort": "occurred_at"}), (person, {"q": "a"}), (person, {"actor_type": "user"}), (person, {"event_type": "x"}),
        (person, {"created_to": "2026-01-01T00:00:00Z"}), (colleague, {}), (stranger, {}),
    ):  # fmt: skip
        assert error_of(await other.get(PATH, params={"q": "thing-", "cursor": cursor, **params})) == BAD_CURSOR
    assert error_of(await person.get("/v1/ui/documents", params={"cursor": cursor})) == BAD_CURSOR
    for forged in (cursor[:-1], f"A{cursor[1:]}", "x", "A" * 5000, "%"):
        assert error_of(await person.get(PATH, params={"q": "thing-", "cursor": forged})) == BAD_CURSOR


@pytest.mark.parametrize(
    ("params", "refusal"),
    [
        ({"limit": "0"}, INVALID), ({"limit": "101"}, INVALID), ({"limit": "abc"}, INVALID), ({"created_from": "yesterday"}, INVALID),
        ({"created_from": "2026-01-01T00:00:00"}, INVALID), ({"q": "x" * 201}, INVALID), ({"sort": "metadata"}, ("BAD_REQUEST", 400)),
        ({"sort": "id;drop table audit_events"}, ("BAD_REQUEST", 400)), ({"sort": "id,id,id,id"}, ("BAD_REQUEST", 400)),
    ],
)  # fmt: skip
async def test_what_cannot_be_listed_is_refused(log: tuple[Api, Person], params: dict[str, str], refusal: tuple[str, int]) -> None:
    assert error_of(await log[1].get(PATH, params=params)) == refusal


async def test_a_tenant_sees_its_own_log_alone_and_its_admins_only(log: tuple[Api, Person]) -> None:
    api, person = log
    stranger = await api.person()
    assert (await page(stranger, limit=100))["items"] == []
    assert not any("test.kind" in one["value"] for one in (await page(stranger, q=""))["facets"]["event_type"])
    for role in ("editor", "reader"):
        assert error_of(await (await api.person(role, person.tenant)).get(PATH)) == ("AUTH_FORBIDDEN", 403)
    await rows(
        api, "insert into feature_overrides (tenant_id, feature_key, enabled) values ($1, 'feature.audit_access', false)", stranger.tenant
    )
    again = await api.person("admin", stranger.tenant)
    assert error_of(await again.get(PATH)) == ("FEATURE_NOT_ENABLED", 403)


@pytest.mark.slow
async def test_the_log_is_ones_own_without_the_second_wall_too(servers: Servers) -> None:
    async with walled(servers, "no row-level security") as api:
        person, stranger = await api.person(), await api.person()
        for tenant in (person.tenant, stranger.tenant):
            await rows(api, _EVENT, tenant, "x", "x", f"of.{tenant}", "success", "thing", "thing-1", "r", datetime.now(UTC), None)
        data = await page(person, q="of.")
        assert [item["event_type"] for item in data["items"]] == [f"of.{person.tenant}"]
        assert data["facets"]["event_type"] == [{"value": f"of.{person.tenant}", "count": 1}]
