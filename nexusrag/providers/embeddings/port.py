"""The port to an embedding model, and the one check that every provider's vectors pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexusrag.kernel.errors import ApiError, ErrorCode

_LEAST_NORM = 1e-12


@dataclass(frozen=True)
class EmbeddingModel:
    """What a corpus records about its vectors.

    `name` is stable (`local/all-MiniLM-L6-v2`, `openai/<model>@<dimensions>`): vectors of one name are comparable. The model sees the
    first `max_tokens` tokens of a text.
    """

    name: str
    dimensions: int
    max_tokens: int


class Embedder(Protocol):
    """Turns texts into vectors. Belongs to the event loop of its first call."""

    @property
    def model(self) -> EmbeddingModel: ...

    async def embed(self, texts: Sequence[str], *, urgent: bool = False, tenant_id: str = "") -> NDArray[np.float32]:
        """Vectors of `texts`, shape (len(texts), dimensions), of length 1. A text alone decides its vector, not its neighbours.

        `urgent`: someone waits for it (a question); it goes before bulk work where the provider has a queue. `tenant_id`: for whom,
        which decides whose circuit breaker counts where the model is an outside one.
        Raises ApiError(SERVICE_UNAVAILABLE) when the model on this machine, INTEGRATION_UNAVAILABLE when an outside one, fails.
        """
        ...

    async def close(self) -> None:
        """Give everything back. Calls under way, and later ones, raise ApiError(SERVICE_UNAVAILABLE)."""
        ...


def checked(model: EmbeddingModel, count: int, vectors: ArrayLike) -> NDArray[np.float32]:
    """`vectors` as an array of shape (count, model.dimensions) whose rows have length 1.

    Raises ApiError(INTEGRATION_UNAVAILABLE) when number or dimension is another, or a vector is not finite or has no direction.
    """
    if count == 0:
        return np.empty((0, model.dimensions), np.float32)
    try:
        with np.errstate(over="ignore"):
            given = np.asarray(vectors, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused("something that is no list of vectors") from error
    if given.ndim != 2 or given.shape != (count, model.dimensions):
        raise _refused(
            f"an array of shape {given.shape} where ({count}, {model.dimensions}) was due. Check EMBEDDING_MODEL and EMBEDDING_DIMENSIONS"
        )
    # In double precision: the squares of large but finite components overflow in single.
    norms = np.sqrt(np.einsum("ij,ij->i", given, given, dtype=np.float64))
    if not np.isfinite(norms).all():
        raise _refused("a vector that is not finite")
    if norms.min() < _LEAST_NORM:
        raise _refused("a vector of length zero")
    unit: NDArray[np.float32] = (given / norms[:, None]).astype(np.float32)
    return unit


def _refused(what: str) -> ApiError:
    return ApiError(ErrorCode.INTEGRATION_UNAVAILABLE, f"The embedding model answered with {what}.")
