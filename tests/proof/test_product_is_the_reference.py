"""The product and the naive reference decide alike: every check, listing, count, search and explanation in hundreds of worlds."""

from random import Random

import pytest

from nexusrag.kernel import clock
from nexusrag.providers.embeddings.port import Embedder
from tests.proof import reference
from tests.proof.compare import Tally, proving
from tests.proof.plant import WORD, Plant, administrator
from tests.proof.worlds import Tenant, world
from tests.support.api import Api
from tests.support.installation import http

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SEEDS = range(260)
OVER_HTTP = range(10_000, 10_005)


async def test_no_decision_differs(api: Api) -> None:
    tally = Tally()
    async with proving(api.servers, api.app, api.resources) as proof:
        await proof.run(SEEDS, tally)
    print(f"\n{tally}")
    assert tally.differences[:5] == []
    assert tally.worlds >= 500
    assert tally.total >= 100_000
    # Every way to a decision was met often, so that agreement means something.
    least = tally.total / 200
    assert {reason for reason, count in tally.reasons.items() if count > least} == {
        "person", "role", "gone", "policy", "default_deny", *reference.GIVING
    }  # fmt: skip


async def test_no_answer_over_http_differs(api: Api) -> None:
    model = api.resources.get(Embedder).model
    admin = await administrator(await api.servers.admin())
    try:
        space = await admin.fetchval("select space_ensure($1, $2)", model.name, model.dimensions)
        plant = Plant(admin, api.servers.settings.auth.auth_key_pepper.get_secret_value(), space, model.dimensions)
        tenants = [tenant | {"default_deny": True, "bypass": False} for seed in OVER_HTTP for tenant in world(seed)]
        for tenant in tenants:  # a policy of the platform would bind other tests, too
            tenant["policies"] = [policy for policy in tenant["policies"] if not policy["platform"]]
        await plant.put(tenants)
    finally:
        await admin.close()
    tally = Tally()
    for tenant in tenants:
        for key in tenant["keys"]:
            await _everything(api, tenant, key, tally)
    assert tally.differences[:5] == []
    assert tally.decisions["http"] > 200


async def _everything(api: Api, tenant: Tenant, key: str, tally: Tally) -> None:
    """What a key gets of each document, of the list, and of searches."""
    caller = ("api_key", key)

    def request(method: str, path: str, action: str) -> dict[str, str]:
        return {"time": clock.iso(clock.now()) or "", "ip": "127.0.0.1", "method": method, "path": path, "action": action}

    async with http(api.base_url, tenant["keys"][key]["secret"]) as client:
        for one in Random(key).sample(list(tenant["documents"]), 4):
            for verb, method, path in (("read", "GET", f"/v1/documents/{one}"), ("reindex", "POST", f"/v1/documents/{one}/reindex")):
                answer = await client.request(method, path)
                code = answer.json()["error"]["code"] if answer.is_error else ""
                if code in ("INGEST_SOURCE_MISSING", "INGEST_IN_PROGRESS"):  # allowed: a world has no files
                    code = ""
                due = reference.told(tenant, caller, verb, one, request(method, path, f"documents.{verb}"))
                tally.compare("http", f"{caller} {verb} {one} of {tenant['id']}", _coarse(code), _coarse(due))
        listed = (await client.get("/v1/documents")).json().get("data", [])
        asked = request("GET", "/v1/documents", "documents.read")
        due = {one for one in tenant["documents"] if reference.decide(tenant, caller, "read", one, asked) in reference.GIVING}
        tally.compare("http", f"{caller} lists {tenant['id']}", {row["id"] for row in listed}, due, len(tenant["documents"]))
        for corpus in tenant["corpora"]:
            path = f"/v1/corpora/{corpus}/search"
            answer = await client.post(path, json={"query": WORD, "top_k": 50})
            found = answer.json()["data"]["passages"] if answer.is_success else []
            asked = request("POST", path, "corpora.search")
            within = {one for one in tenant["indexed"] if tenant["documents"][one]["corpus_id"] == corpus}
            due = {one for one in within if reference.decide(tenant, caller, "search", one, asked) in reference.GIVING}
            tally.compare("http", f"{caller} searches {corpus} of {tenant['id']}", {one["document_id"] for one in found}, due, len(within))


def _coarse(code: str) -> str:
    """Why a key is refused is a matter of its own tests."""
    return "AUTH_UNAUTHORIZED" if code.startswith("AUTH_") and code.endswith("_KEY") else code
