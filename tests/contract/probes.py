"""One probe: a request sent twice, with a real id in one place and with one that was made up, and the answers made comparable."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nexusrag.kernel.ids import new_id
from tests.contract.matrix import Sent, entry
from tests.contract.table import Known
from tests.contract.things import CANARY, MADE_UP, Stock
from tests.support.api import Person

# What differs between two answers of the same meaning: new ids, times, lengths.
_NEW = re.compile(rb"[a-z]{1,6}_[0-9a-f]{32,40}")
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)")
_ANSWER_ALONE = frozenset({"date", "content-length", "etag"})
_FIGURES = ("x-quota-", "x-cost-", "x-sla-")  # of the asker's own tenant, which move with every request


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which route an id of which kind stands. The tenant in a query is a place of every route."""

    route: Known
    sent: Sent
    at: str
    kind: str

    def __str__(self) -> str:
        return f"{self.route}, {self.at}"

    def beside(self, at: str, kind: str, optional: bool, own: Stock) -> str | None:
        """What stands in another place. A cursor is looked at without filters, as it was got."""
        left_out = optional or (self.kind == "cursor" and at.startswith("query:"))
        return None if left_out else own.ids[kind]

    async def ask(self, person: Person, own: Stock, tested: str) -> "Answer":
        """`tested` stands in this place, things of the person's own in all others."""

        def fill(at: str, kind: str, optional: bool) -> str | None:
            return tested if (at, kind) == (self.at, self.kind) else self.beside(at, kind, optional, own)

        path, options = self.sent.request(self.route, fill)
        if self.at == "query:tenant_id" and not self.sent.query.get("tenant_id"):
            options["params"] = {**options.get("params", {}), "tenant_id": tested}
        answer = await person.client.request(self.route.method, path, **options)
        return Answer(answer.status_code, dict(answer.headers), answer.content, tested)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    tested: str

    @property
    def comparable(self) -> tuple[int, dict[str, bytes], bytes]:
        headers = {name: self._masked(value.encode()) for name, value in self._told()}
        return self.status, headers, self._masked(self.body)

    def _told(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.headers.items() if name not in _ANSWER_ALONE and not name.startswith(_FIGURES)]

    def _masked(self, raw: bytes) -> bytes:
        return _TIME.sub(b"<time>", _NEW.sub(b"<id>", raw.replace(self.tested.encode(), b"<id>")))

    def __str__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


def places(routes: list[Known]) -> Iterator[Place]:
    """Every place of every route."""
    for route in routes:
        sent = entry(route)
        found = sent.places(route)
        yield from (Place(route, sent, at, kind) for at, kind in found)
        if ("query:tenant_id", "tenant") not in found and not route.gate.is_public:
            yield Place(route, sent, "query:tenant_id", "tenant")


async def cursor_of(person: Person, place: Place, own: Stock) -> str:
    """A cursor that the person got from this listing."""
    path, options = place.sent.request(place.route, lambda at, kind, optional: place.beside(at, kind, optional, own))
    if place.route.legacy:  # whose answers have no place for one
        path = f"/v1{path}"
    answer = await person.client.get(path, params={**options.get("params", {}), "limit": 1})
    body: Any = answer.json()
    page = body.get("meta", {}).get("page") or body.get("data", {}).get("page") or {}
    assert page.get("next_cursor"), f"{place}: a listing of one thing has no second page: {answer.text[:300]}"
    return str(page["next_cursor"])


async def probe(person: Person, own: Stock, place: Place, real: str) -> str | None:
    """What the person learns there about `real`; None is nothing."""
    found = await place.ask(person, own, real)
    # What the client chooses is there afterwards, and would be no longer made up.
    nothing = await place.ask(person, own, new_id("n") if place.at in place.sent.taken else MADE_UP[place.kind])
    if found.status >= 500 or nothing.status >= 500:
        return f"{place}: fails: {found}, {nothing}"
    if CANARY.encode() in found.body and CANARY.encode() not in nothing.body:
        return f"{place}: shows what is hidden: {found}"
    if found.comparable != nothing.comparable:
        return f"{place}: {found} is not {nothing}"
    return None
