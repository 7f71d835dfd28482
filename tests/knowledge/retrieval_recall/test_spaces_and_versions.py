"""Vectors of two models never meet, and what was overwritten or deleted is not found."""

import numpy as np
import pytest

from nexusrag.kernel.errors import STATUS, ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.index.facade import insert, remove
from tests.knowledge.retrieval_recall.conftest import NewLibrary
from tests.knowledge.retrieval_recall.library import Item, Library, Shelf, caller, new_version, unit
from tests.support.api import Api, error_of
from tests.support.installation import Servers, serving
from tests.support.openai_stand_in import openai_stand_in

DIMENSIONS = 16
ARMS = pytest.mark.parametrize("exact_limit", [5000, 0], ids=["exact", "index"])


@pytest.fixture(scope="module")
def library(new_library: NewLibrary) -> Library:
    return new_library(DIMENSIONS)


async def _found(library: Library, shelf: Shelf, exact_limit: int) -> list[str]:
    """Texts found for a word that every chunk holds, nearest first."""
    vector = unit(np.random.default_rng(0), 1, library.dimensions)[0]
    found = await library.search(shelf, caller(shelf.tenant, "x"), "bakard", vector, 50, RETRIEVAL_EXACT_LIMIT=exact_limit)
    return [passage.text for passage in found.passages]


@ARMS
async def test_two_models_in_one_tenant_do_not_mix(new_library: NewLibrary, exact_limit: int) -> None:
    rng = np.random.default_rng(5)
    one, other = new_library(DIMENSIONS), new_library(2 * DIMENSIONS)
    tenant = await one.tenant()
    shelves = [(one, await one.shelf(tenant, "tenant")), (other, await other.shelf(tenant, "tenant"))]
    for place, (library, shelf) in enumerate(shelves):
        texts = [f"bakard of {place}"] * 3
        await library.put(shelf, [Item(f"doc-{place}", texts, unit(rng, 3, library.dimensions))])
    assert shelves[0][1].space != shelves[1][1].space
    for place, (library, shelf) in enumerate(shelves):
        assert await _found(library, shelf, exact_limit) == [f"bakard of {place}"] * 3


async def test_a_corpus_of_another_model_is_refused(new_library: NewLibrary) -> None:
    indexed, in_use = new_library(DIMENSIONS), new_library(DIMENSIONS)
    shelf = await indexed.shelf(await indexed.tenant(), "tenant")
    with pytest.raises(ApiError) as refused:
        await _found(in_use, shelf, 5000)
    assert refused.value.code is ErrorCode.EMBEDDING_DIMENSION_MISMATCH
    assert refused.value.details == {"corpus_model": indexed.model, "model": in_use.model}


async def test_a_corpus_of_another_model_is_refused_over_http(api: Api, new_library: NewLibrary) -> None:
    person = await api.person()
    shelf = await new_library(DIMENSIONS).shelf(person.tenant, "tenant")
    answer = await person.post(f"/v1/corpora/{shelf.corpus}/search", json={"query": "bakard"})
    assert error_of(answer) == ("EMBEDDING_DIMENSION_MISMATCH", STATUS[ErrorCode.EMBEDDING_DIMENSION_MISMATCH])
    document = await person.settled(await person.text(shelf.corpus, "Of another model.", wait=False))
    assert document["status"] == "failed"
    assert document["failure_reason"].startswith("EMBEDDING_DIMENSION_MISMATCH: the corpus was indexed with ")


async def test_a_model_with_other_dimensions_is_another_model(servers: Servers) -> None:
    async with openai_stand_in() as model:
        env = {"EMBEDDING_PROVIDER": "openai", "EMBEDDING_BASE_URL": model.url, "EMBEDDING_MODEL": new_id("model")}
        for model.dimensions in (8, 16):
            settings = servers.with_env(**env, EMBEDDING_DIMENSIONS=str(model.dimensions), INGEST_EXECUTION_MODE="inline")
            async with serving(settings) as (app, url):
                api = Api(servers, app, url)
                if model.dimensions == 8:
                    person = await api.person()
                    corpus = await person.corpus()
                    await person.text(corpus, "Lanterns.")
                async with person.at(url) as again:
                    if model.dimensions == 16:
                        refused = await again.post(f"/v1/corpora/{corpus}/search", json={"query": "lanterns"})
                        assert error_of(refused) == ("EMBEDDING_DIMENSION_MISMATCH", 409)
                        document = await again.settled(await again.text(corpus, "More lanterns.", wait=False))
                        assert document["failure_reason"].startswith("EMBEDDING_DIMENSION_MISMATCH")
                    other = await again.corpus()
                    await again.text(other, "Harbours.")
                    assert len(await again.search(other, "harbours")) == 1
                await api.close()


@ARMS
async def test_a_new_version_replaces_all_of_the_former_one(library: Library, exact_limit: int) -> None:
    shelf = await library.shelf(await library.tenant(), "tenant")
    vectors = unit(np.random.default_rng(8), 5, DIMENSIONS)
    await library.put(shelf, [Item("doc", ["bakard old"] * 5, vectors)])
    await library.index(shelf, [Item("doc", ["bakard new"] * 2, vectors[:2])])
    assert await _found(library, shelf, exact_limit) == ["bakard new"] * 2


@ARMS
async def test_a_version_counts_once_the_document_points_to_it(library: Library, exact_limit: int) -> None:
    shelf = await library.shelf(await library.tenant(), "tenant")
    vectors = unit(np.random.default_rng(9), 2, DIMENSIONS)
    await library.put(shelf, [Item("doc", ["bakard live"], vectors[:1])])
    async with library.database.work(shelf.tenant) as work:
        await insert(work, new_version(shelf, Item("doc", ["bakard waiting"], vectors[1:])))
    assert await _found(library, shelf, exact_limit) == ["bakard live"]


@ARMS
async def test_a_removed_document_leaves_nothing_behind(library: Library, exact_limit: int) -> None:
    shelf = await library.shelf(await library.tenant(), "tenant")
    vectors = unit(np.random.default_rng(10), 4, DIMENSIONS)
    await library.put(shelf, [Item("gone", ["bakard gone"] * 2, vectors[:2]), Item("kept", ["bakard kept"] * 2, vectors[2:])])
    async with library.database.work(shelf.tenant) as work:
        await remove(work, ["gone"])
        await work.raw.execute("delete from documents where tenant_id = $1 and id = 'gone'", shelf.tenant)
    assert await _found(library, shelf, exact_limit) == ["bakard kept"] * 2
    admin = await library.servers.admin()
    try:
        for table in ("chunks", "embeddings", "postings"):
            left = await admin.fetchval(f"select count(distinct version_id) from {table} where tenant_id = $1", shelf.tenant)
            assert left == 1, table
    finally:
        await admin.close()


@ARMS
async def test_an_empty_corpus_answers_with_nothing(library: Library, exact_limit: int) -> None:
    shelf = await library.shelf(await library.tenant(), "tenant")
    assert await _found(library, shelf, exact_limit) == []
