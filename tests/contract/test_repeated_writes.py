"""Every write of the matrix, sent twice with one Idempotency-Key: the second is the stored answer, and no second effect."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexusrag.kernel.ids import new_id
from tests.contract.matrix import entry
from tests.contract.table import Known, known_routes
from tests.contract.things import Stock
from tests.support.api import Api

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
# What cannot be carried out as the matrix has it, and what it answers instead. Such an answer is not kept.
REFUSED = {
    "POST /v1/self-serve/billing/webhook-test": 400,  # without a webhook; tests/billing has one
    "POST /v1/admin/api-keys/{key_id}/rotate": 403,  # of somebody else's key; tests/identity rotates one's own
    "POST /v1/auth/logout": 401,  # with an API key, which has no session; and who has logged out is nobody any more
}
# What the matrix leaves out, because nothing has to succeed there.
BESIDES = {
    "POST /v1/admin/identity/providers": {
        "default_role": "reader", "auth_url": "https://idp.example/a", "token_url": "https://idp.example/t",
        "jwks_url": "https://idp.example/j",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
async def stock(shared_api: Api) -> AsyncIterator[Stock]:
    """Things of the home tenant, whose admin reaches every route."""
    yield await Stock(shared_api, await shared_api.operator(), "tenant").fill()


async def request_of(route: Known, stock: Stock, tenant: str) -> tuple[str, dict[str, Any]]:
    """A request with new things in every place, so that it can be carried out, whatever was done before it."""
    sent = entry(route)
    ids = {"tenant": stock.owner.tenant if "/sla/" in route.path else tenant}
    if any(kind != "tenant" for _, kind in sent.places(route)):
        for kind in ("corpus", "document", "group"):  # of which the others are made
            ids[kind] = await stock.make(kind)
    for place, kind in sent.places(route):
        if place in sent.taken:
            ids[place] = new_id("n")
        elif kind not in ids:
            ids[kind] = await stock.make(kind)
    path, options = sent.request(route, lambda place, kind, optional: None if optional else ids.get(place, ids.get(kind)))
    if str(route) in BESIDES:
        options["json"] |= BESIDES[str(route)]
    options["headers"]["Idempotency-Key"] = new_id("k")
    return path, options


async def test_every_write_is_answered_once_and_replayed(api: Api, stock: Stock) -> None:
    elsewhere = (await api.person()).tenant
    replayed, refused = 0, {}
    for route in sorted(known_routes(api), key=lambda route: "authz/policies" in route.path):  # which forbid the others
        if route.method == "GET" or route.legacy or route.provisions or not route.gate.idempotent:
            continue
        path, options = await request_of(route, stock, elsewhere)
        first = await stock.owner.client.request(route.method, path, **options)
        again = await stock.owner.client.request(route.method, path, **options)
        if first.status_code >= 300:
            refused[str(route)] = f"{first.status_code} {first.text[:200]}"
            assert "Idempotency-Replayed" not in again.headers, route
            continue
        replayed += 1
        assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (first.status_code, "true"), (route, again.text)
        if route.gate.shown_once is None:
            assert again.content == first.content, route
        else:
            told, kept = first.json()["data"], again.json()["data"]
            assert told[route.gate.shown_once]
            assert kept == {**told, route.gate.shown_once: None}, route
    assert {name: int(answer[:3]) for name, answer in refused.items()} == REFUSED, refused
    assert replayed > 50
