"""The OpenAI embeddings protocol against a real server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from nexusrag.infra.outbound import Outbound
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.embeddings.openai import OpenAIEmbedder, open_openai
from nexusrag.settings import SettingsError, load
from nexusrag.settings.outbound import OutboundSettings
from tests.support.openai_stand_in import OpenAIStandIn, document, embedding, hang, openai_stand_in, refuse

KEY = "sk-canary-77aa"


@pytest.fixture
async def server() -> AsyncIterator[OpenAIStandIn]:
    async with openai_stand_in() as running:
        yield running


@pytest.fixture
async def embedder(server: OpenAIStandIn) -> AsyncIterator[OpenAIEmbedder]:
    out = Outbound(OutboundSettings(outbound_allowed_networks="127.0.0.0/8"))
    yield OpenAIEmbedder(out, base_url=server.url, key=KEY, name="tiny", dimensions=8, timeout_s=0.5)
    await out.close()


@pytest.mark.parametrize("packs", [True, False])
async def test_vectors_are_of_length_one_and_in_the_order_of_the_texts(
    server: OpenAIStandIn, embedder: OpenAIEmbedder, packs: bool
) -> None:
    server.packs = packs
    texts = [f"text {index}" for index in range(150)]
    vectors = await embedder.embed(texts)
    expected = np.array([embedding(text, 8) for text in texts], np.float32)
    assert np.allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    assert [len(sent["input"]) for sent in server.requests] == [64, 64, 22]
    assert vectors.dtype == np.float32
    assert embedder.model.name == "openai/tiny@8"


async def test_no_texts_empty_texts_and_broken_unicode_are_fine(server: OpenAIStandIn, embedder: OpenAIEmbedder) -> None:
    assert (await embedder.embed([])).shape == (0, 8)
    assert server.requests == []
    assert (await embedder.embed(["", "\ud800", "x" * 100_000], urgent=True)).shape == (3, 8)
    assert server.requests[0]["input"][:2] == [" ", "?"]
    assert len(server.requests[0]["input"][2]) < 30_000


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"index": 0, "embedding": [1.0] * 7}]},
        {"data": [{"index": 0, "embedding": [0.0] * 8}]},
        {"data": [{"index": 0, "embedding": [None] * 8}]},
        {"data": [{"index": 0, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": "no base64!"}]},
        {"data": [{"index": 1, "embedding": [1.0] * 8}]},
        {"data": [{"index": 0, "embedding": [1.0] * 8}] * 2},
        {"data": []},
        {"data": None},
        {},
        [],
        "text",
    ],
)
async def test_an_answer_that_is_not_the_vectors_asked_for_is_refused(server: OpenAIStandIn, embedder: OpenAIEmbedder, answer: Any) -> None:
    server.behaviours = [document(orjson.dumps(answer))]
    with pytest.raises(ApiError) as failure:
        await embedder.embed(["a"])
    assert failure.value.code is ErrorCode.INTEGRATION_UNAVAILABLE
    assert len(server.requests) == 1


async def test_passing_faults_are_asked_again_and_lasting_ones_are_not(server: OpenAIStandIn, embedder: OpenAIEmbedder) -> None:
    for fault in (refuse(429, headers={"Retry-After": "0"}), refuse(503)):
        server.behaviours = [fault]
        assert (await embedder.embed(["a"])).shape == (1, 8)
    server.requests.clear()
    server.behaviours = [refuse(401)]
    with pytest.raises(ApiError, match="EMBEDDING_API_KEY") as failure:
        await embedder.embed(["secret words"])
    assert KEY not in failure.value.message
    assert "secret words" not in failure.value.message
    assert len(server.requests) == 1


async def test_urgent_texts_do_not_wait_for_bulk_ones(server: OpenAIStandIn, embedder: OpenAIEmbedder) -> None:
    server.behaviours = [hang()] * 4
    bulk = [asyncio.create_task(embedder.embed(["bulk"])) for _ in range(8)]
    async with asyncio.timeout(5):
        while len(server.requests) < 4:
            await asyncio.sleep(0.005)
    assert (await embedder.embed(["question"], urgent=True)).shape == (1, 8)
    for task in bulk:
        task.cancel()
    await asyncio.gather(*bulk, return_exceptions=True)


async def test_a_slow_model_is_given_up_and_a_closed_one_not_asked(server: OpenAIStandIn, embedder: OpenAIEmbedder) -> None:
    server.behaviours = [hang()]
    with pytest.raises(ApiError, match="in time"):
        await embedder.embed(["question"], urgent=True)
    await embedder.close()
    with pytest.raises(ApiError) as failure:
        await embedder.embed(["question"])
    assert failure.value.code is ErrorCode.SERVICE_UNAVAILABLE


async def test_model_and_dimensions_must_be_set(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as fault:
        open_openai(load(tmp_path, {"EMBEDDING_PROVIDER": "openai"}), Outbound())
    assert [line.split(":")[0] for line in fault.value.lines] == ["EMBEDDING_MODEL", "EMBEDDING_DIMENSIONS"]
    env = {"EMBEDDING_PROVIDER": "openai", "EMBEDDING_MODEL": "m", "EMBEDDING_DIMENSIONS": "8"}
    assert open_openai(load(tmp_path, env), Outbound()).model.dimensions == 8


async def test_whoever_answers_nonsense_over_and_over_is_left_alone(server: OpenAIStandIn, embedder: OpenAIEmbedder) -> None:
    server.behaviours = [document(b"<html>", "text/html")] * 5
    for _ in range(6):
        with pytest.raises(ApiError):
            await embedder.embed(["text"])
    assert len(server.requests) == 5
