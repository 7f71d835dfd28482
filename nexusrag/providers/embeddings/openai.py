"""Any endpoint that speaks the OpenAI embeddings protocol. Decides the batches and how many run at once."""

import asyncio
import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from nexusrag.infra.integrations import Failed
from nexusrag.infra.outbound import Outbound, OutboundError, OutboundTimeout, UrlNotAllowed
from nexusrag.infra.retries import NONSENSE, of_status
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.embeddings.port import EmbeddingModel, checked
from nexusrag.settings import Settings, SettingsError

_MAX_TOKENS = 8191
_MAX_CHARACTERS = 3 * _MAX_TOKENS
_BATCH_TEXTS = 64
_BATCH_CHARACTERS = 200_000
_BULK_AT_ONCE = 4
_BULK_TIMEOUT_S = 60.0


def open_openai(settings: Settings, outbound: Outbound) -> "OpenAIEmbedder":
    """The embedder of the settings. Raises SettingsError when they leave its model or dimensions open."""
    chosen = settings.embeddings
    faults = [
        f"{name}: needed when EMBEDDING_PROVIDER=openai"
        for name, value in (("EMBEDDING_MODEL", chosen.embedding_model), ("EMBEDDING_DIMENSIONS", chosen.embedding_dimensions))
        if not value
    ]
    if faults:
        raise SettingsError(faults)
    return OpenAIEmbedder(
        outbound,
        base_url=chosen.embedding_base_url,
        key=chosen.embedding_api_key.get_secret_value(),
        name=chosen.embedding_model,
        dimensions=chosen.embedding_dimensions,
        timeout_s=settings.outbound.ext_call_timeout_ms / 1000,
    )


class OpenAIEmbedder:
    """One model of one endpoint. Urgent texts do not wait for bulk ones."""

    def __init__(self, outbound: Outbound, *, base_url: str, key: str, name: str, dimensions: int, timeout_s: float) -> None:
        self._outbound = outbound
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._name = name
        self._model = EmbeddingModel(f"openai/{name}@{dimensions}", dimensions, _MAX_TOKENS)
        self._timeout = timeout_s
        self._bulk = asyncio.Semaphore(_BULK_AT_ONCE)
        self._closed = False

    @property
    def model(self) -> EmbeddingModel:
        return self._model

    async def embed(self, texts: Sequence[str], *, urgent: bool = False, tenant_id: str = "") -> NDArray[np.float32]:
        """See Embedder. An empty text counts as a space; a very long one is cut.

        Raises ApiError(INTEGRATION_UNAVAILABLE).
        """
        asked = [text[:_MAX_CHARACTERS].encode(errors="replace").decode() or " " for text in texts]
        done: list[NDArray[np.float32]] = []
        for batch in _batches(asked):
            if urgent:
                done.append(await self._embed(batch, self._timeout, tenant_id))
            else:
                async with self._bulk:
                    done.append(await self._embed(batch, max(self._timeout, _BULK_TIMEOUT_S), tenant_id))
        return np.concatenate(done) if done else checked(self._model, 0, ())

    async def close(self) -> None:
        """The connections belong to Outbound."""
        self._closed = True

    async def _embed(self, batch: list[str], timeout_s: float, tenant_id: str) -> NDArray[np.float32]:
        body: dict[str, Any] = {"model": self._name, "input": batch, "encoding_format": "base64"}
        if self._name.startswith("text-embedding-3"):
            body["dimensions"] = self._model.dimensions

        async def ask() -> NDArray[np.float32]:
            if self._closed:
                raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The embedding model is shut down.")
            try:
                status, headers, answer = await self._outbound.post_json(self._url, body, self._headers, timeout_s)
            except OutboundError as error:
                raise Failed(_failed(error), error.verdict) from None
            if status != 200:
                raise Failed(_refused(status), of_status(status, headers.get("retry-after")))
            return checked(self._model, len(batch), _vectors(answer, len(batch)))

        return await self._outbound.integrations.calling("embeddings.openai", tenant_id, timeout_s).answer(ask)


def _batches(texts: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == _BATCH_TEXTS or size + len(text) > _BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def _vectors(answer: bytes, count: int) -> list[Any]:
    """The vectors in the order of the texts, as lists of numbers or as packed little-endian floats."""
    try:
        rows = orjson.loads(answer)["data"]
        if sorted(row["index"] for row in rows) != list(range(count)):
            raise ValueError
        vectors: list[Any] = [None] * count
        for row in rows:
            given = row["embedding"]
            vectors[row["index"]] = np.frombuffer(base64.b64decode(given, validate=True), "<f4") if isinstance(given, str) else given
    except (ValueError, LookupError, TypeError, binascii.Error):
        raise Failed(_unavailable("The embedding model answered with something that is no list of vectors."), NONSENSE) from None
    return vectors


def _refused(status: int) -> ApiError:
    if status in (401, 403):
        return _unavailable(f"The embedding model refused our key (HTTP {status}). Check EMBEDDING_API_KEY.")
    if status == 404:
        return _unavailable("There is no such embedding model (HTTP 404). Check EMBEDDING_BASE_URL and EMBEDDING_MODEL.")
    return _unavailable(f"The embedding model refused the request (HTTP {status}).")


def _failed(error: OutboundError) -> ApiError:
    if isinstance(error, OutboundTimeout):
        return _unavailable("The embedding model did not answer in time.")
    if isinstance(error, UrlNotAllowed):
        return _unavailable("The address of the embedding model may not be called. Check EMBEDDING_BASE_URL and OUTBOUND_ALLOWED_NETWORKS.")
    return _unavailable(f"The embedding model cannot be reached: {error}.")


def _unavailable(message: str) -> ApiError:
    return ApiError(ErrorCode.INTEGRATION_UNAVAILABLE, message)
