"""While ingestion is switched off, documents wait where they are: those that nobody has begun, and those under way."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nexusrag.kernel.switches import WRITE_FREEZE, Switch
from nexusrag.providers.embeddings.fake import FakeEmbedder
from nexusrag.providers.embeddings.port import Embedder
from tests.support.api import Api, Person
from tests.support.behind import rows
from tests.support.installation import Servers, serving, working
from tests.support.processes import until
from tests.support.switched import forced

pytestmark = pytest.mark.slow


async def job(api: Api, person: Person, document: str) -> dict[str, Any]:
    newest = "select * from jobs where tenant_id = $1 and args->>'document_id' = $2 order by created_at desc limit 1"
    (found,) = await rows(api, newest, person.tenant, document)
    return found


@pytest.mark.parametrize("flag", [Switch.INGEST, WRITE_FREEZE])
async def test_a_job_that_nobody_has_begun_waits(servers: Servers, flag: str) -> None:
    settings = servers.with_env(INGEST_QUEUE_NAME=f"switched-{flag}")
    async with serving(settings) as (app, url):
        api = Api(servers, app, url)
        person = await api.person()
        corpus, emptied = await person.corpus(), await person.corpus()
        document = await person.text(corpus, "Words.", wait=False)
        await person.delete(f"/v1/corpora/{emptied}")

        async def removed() -> bool:
            return not await rows(api, "select 1 from corpora where tenant_id = $1 and id = $2", person.tenant, emptied)

        async with forced(api, flag), working(settings) as (_, runner):
            if flag == WRITE_FREEZE:
                await runner._claim()  # it has looked, and has slept on what it saw
                assert not await removed()
            else:
                await until(removed)  # other work of the same queue goes on
            found = await job(api, person, document)
            assert (found["state"], found["attempt"]) == ("queued", 0)
            assert (await person.get(f"/v1/documents/{document}")).json()["data"]["status"] == "queued"
        async with working(settings):
            assert (await person.settled(document))["status"] == "succeeded"
            await until(removed)
        await api.close()


async def test_a_job_under_way_goes_back_to_the_queue_uncounted(servers: Servers) -> None:
    settings = servers.with_env(INGEST_QUEUE_NAME="midway", INGEST_EXECUTION_MODE="inline")
    async with serving(settings) as (app, url):
        api = Api(servers, app, url)
        person = await api.person()
        corpus = await person.corpus()
        off = forced(api, Switch.INGEST)

        class Switching(FakeEmbedder):
            async def embed(self, *given: Any, **more: Any) -> NDArray[np.float32]:
                await off.__aenter__()
                return await super().embed(*given, **more)

        whole = api.resources.get(Embedder)
        api.resources.put(Embedder, Switching())
        try:
            document = await person.text(corpus, "Words.", wait=False)
            found = await job(api, person, document)
            assert (found["state"], found["attempt"], found["epoch"]) == ("queued", 0, 1)
            shown = (await person.get(f"/v1/documents/{document}")).json()["data"]
            assert (shown["status"], shown["failure_reason"], shown["num_chunks"]) == ("queued", None, None)
        finally:
            api.resources.put(Embedder, whole)
            assert await person.search(corpus, "words") == []
            await off.__aexit__(None, None, None)
        async with working(settings):
            assert (await person.settled(document))["status"] == "succeeded"
        await api.close()
