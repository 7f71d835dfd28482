"""What indexing costs is reserved before it is embedded: a queue of documents spends no more than the budget has."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nexusrag.billing.costs.facade import Metered, hold
from nexusrag.billing.ledger.expiry import settle_expired
from nexusrag.infra.database import Database
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.traffic import RouteClass
from nexusrag.providers.embeddings.fake import FakeEmbedder
from nexusrag.providers.embeddings.port import Embedder
from nexusrag.settings import Settings
from tests.billing.costs.support import add_price, set_budget
from tests.billing.ledger.support import entries, sums
from tests.support.api import Api, Person
from tests.support.behind import audited, rows
from tests.support.installation import Servers, serving, working

TEXT = "The lighthouse keeper no. {:04} is called Ada Moreau."
COSTS = Decimal(-(-len(TEXT.format(0)) // 4))  # of one document, at a dollar a token


@asynccontextmanager
async def queueing(servers: Servers, queue: str, **env: str) -> AsyncIterator[tuple[Api, Settings]]:
    """An API, and the settings of workers that are not there yet."""
    settings = servers.with_env(INGEST_QUEUE_NAME=queue, **env)
    async with serving(settings) as (app, url):
        api = Api(servers, app, url)
        yield api, settings
        await api.close()


@pytest.fixture
async def inline(servers: Servers) -> AsyncIterator[Api]:
    async with queueing(servers, "dear", INGEST_EXECUTION_MODE="inline") as (api, _):
        yield api


async def payer(api: Api, budget: Decimal) -> tuple[Person, str]:
    """An admin whose embedding costs a dollar a token, within a budget that blocks."""
    admin = await api.person()
    await add_price(admin, provider="fake", component="embedding", rate_value_usd=1000)
    await set_budget(admin, monthly_budget_usd=float(budget), enforce_hard_cap=True, hard_cap_mode="block")
    return admin, await admin.corpus()


async def month(api: Api, person: Person) -> tuple[Decimal, Decimal]:
    """Dollars settled and held."""
    found = await rows(api, "select usd, held_usd from usage_periods where tenant_id = $1 and period = 'month'", person.tenant)
    return (found[0]["usd"], found[0]["held_usd"]) if found else (Decimal(0), Decimal(0))


async def entry(api: Api, person: Person) -> dict[str, Any]:
    (found,) = await rows(api, "select * from ledger where tenant_id = $1 and subject like 'ingest:%'", person.tenant)
    return found


@asynccontextmanager
async def embedding_with(api: Api, embedder: Embedder) -> AsyncIterator[None]:
    whole = api.resources.get(Embedder)
    api.resources.put(Embedder, embedder)
    try:
        yield
    finally:
        api.resources.put(Embedder, whole)


class Failing(FakeEmbedder):
    """Fails with `error`, so often."""

    def __init__(self, error: Exception, times: int) -> None:
        super().__init__()
        self.error, self.times = error, times

    async def embed(self, *given: Any, **more: Any) -> NDArray[np.float32]:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return await super().embed(*given, **more)


async def test_a_queue_of_documents_spends_no_more_than_the_budget(servers: Servers) -> None:
    async with queueing(servers, "many") as (api, settings):
        admin, corpus = await payer(api, 5 * COSTS + 1)
        made = [await admin.text(corpus, TEXT.format(number), wait=False) for number in range(12)]
        assert await month(api, admin) == (0, 0), "all were accepted before anything was spent"
        async with working(settings):
            done = [await admin.settled(document) for document in made]
            assert [document["status"] for document in done].count("succeeded") == 5
            assert await month(api, admin) == (5 * COSTS, 0)
            refused = [document for document in done if document["status"] == "failed"]
            assert all(document["failure_reason"].startswith("COST_BUDGET_EXCEEDED: ") for document in refused)
            assert len(await audited(api, admin.tenant, "cost.cap.triggered")) == 1
            # With more to spend, what was refused can be indexed after all.
            await set_budget(admin, monthly_budget_usd=1_000_000)
            assert (await admin.post(f"/v1/documents/{refused[0]['id']}/reindex", json={})).status_code == 202
            assert (await admin.settled(refused[0]["id"]))["status"] == "succeeded"
            assert await month(api, admin) == (6 * COSTS, 0)
            assert await sums(servers, admin.tenant) == await entries(servers, admin.tenant)


async def test_what_the_budget_refuses_leaves_the_index_as_it_was(inline: Api) -> None:
    admin, corpus = await payer(inline, COSTS + 1)
    kept = await admin.text(corpus, TEXT.format(1), document_id="kept")
    longer = {"corpus_id": corpus, "text": f"{TEXT.format(2)} {TEXT.format(3)}", "document_id": "kept", "overwrite": True}
    assert (await admin.post("/v1/documents/text", json=longer)).status_code == 202
    assert (await admin.settled(kept))["failure_reason"].startswith("COST_BUDGET_EXCEEDED: ")
    await set_budget(admin, enforce_hard_cap=False)
    assert ["0001" in passage["text"] for passage in await admin.search(corpus, "lighthouse keeper")] == [True]
    # Nor is the source another one: indexing it again finds all that it needs.
    before = await month(inline, admin)
    assert (await admin.post(f"/v1/documents/{kept}/reindex", json={})).status_code == 202
    assert (await admin.settled(kept))["status"] == "succeeded"
    assert await month(inline, admin) == before


async def test_a_budget_that_does_not_block_refuses_no_document(inline: Api) -> None:
    admin, corpus = await payer(inline, Decimal(1))
    await set_budget(admin, hard_cap_mode="degrade")
    await admin.text(corpus, TEXT.format(1))
    await set_budget(admin, hard_cap_mode="block", enforce_hard_cap=False)
    await admin.text(corpus, TEXT.format(2))
    assert await month(inline, admin) == (2 * COSTS, 0)


async def test_a_plan_without_costs_indexes_beyond_a_budget(inline: Api) -> None:
    admin, corpus = await payer(inline, Decimal(0))
    assert (await (await inline.operator()).patch(f"/v1/admin/plans/{admin.tenant}", json={"plan_id": "free"})).status_code == 200
    await admin.text(corpus, TEXT.format(1))
    assert await month(inline, admin) == (COSTS, 0)


@pytest.mark.parametrize("expires", [False, True])
async def test_a_job_that_is_run_again_is_charged_once_and_holds_nothing(servers: Servers, expires: bool) -> None:
    async with queueing(servers, f"again-{expires}", INGEST_EXECUTION_MODE="inline") as (api, settings):
        admin, corpus = await payer(api, COSTS + 1)
        async with embedding_with(api, Failing(ConnectionResetError(), 1)):
            document = await admin.text(corpus, TEXT.format(1), wait=False)
        assert await month(api, admin) == (0, COSTS), "as after a crash, it is held until the next attempt"
        if expires:
            await rows(api, "update ledger set expires_at = now() - interval '1 minute' where tenant_id = $1", admin.tenant)
            await settle_expired(api.resources)
            assert await month(api, admin) == (COSTS, 0)
        async with working(settings):
            assert (await admin.settled(document))["status"] == "succeeded"
        assert await month(api, admin) == (COSTS, 0)
        held = await entry(api, admin)
        assert (held["state"], held["usd"], held["user_id"]) == ("settled", COSTS, admin.user_id)
        assert await sums(servers, admin.tenant) == await entries(servers, admin.tenant)


async def test_a_job_that_embeds_nothing_any_more_holds_nothing(servers: Servers) -> None:
    """All its chunks have vectors; an attempt that died had reserved before they did."""
    async with queueing(servers, "left") as (api, settings):
        admin, corpus = await payer(api, 9 * COSTS)
        async with working(settings):
            document = await admin.text(corpus, TEXT.format(1))
        assert (await admin.post(f"/v1/documents/{document}/reindex", json={})).status_code == 202
        (job,) = await rows(api, "select id from jobs where tenant_id = $1 and state = 'queued'", admin.tenant)
        used = [Metered(component="embedding", provider="fake", model="fake", input_tokens=5, estimated=True)]
        async with api.resources.get(Database).work(admin.tenant) as work:
            assert await hold(api.resources, work, f"ingest:{job['id']}", RouteClass.MUTATION, used, user_id=admin.user_id)
        assert await month(api, admin) == (COSTS, 5)
        async with working(settings):
            assert (await admin.settled(document))["status"] == "succeeded"
        assert await month(api, admin) == (COSTS, 0)
        assert await sums(servers, admin.tenant) == await entries(servers, admin.tenant)


async def test_a_document_that_fails_for_good_gives_back_what_it_held(inline: Api) -> None:
    admin, corpus = await payer(inline, COSTS + 1)
    async with embedding_with(inline, Failing(ApiError(ErrorCode.EMBEDDING_DIMENSION_MISMATCH, "No."), 1)):
        document = await admin.text(corpus, TEXT.format(1), wait=False)
    assert (await admin.settled(document))["status"] == "failed"
    assert await month(inline, admin) == (0, 0)
    await admin.text(corpus, TEXT.format(2))
    assert await month(inline, admin) == (COSTS, 0)


async def test_documents_at_once_share_what_is_left(inline: Api) -> None:
    admin, corpus = await payer(inline, 3 * COSTS)
    made = await asyncio.gather(*(admin.post("/v1/documents/text", json={"corpus_id": corpus, "text": TEXT.format(n)}) for n in range(8)))
    assert {answer.status_code for answer in made} <= {202, 402}
    assert await month(inline, admin) == (3 * COSTS, 0)
