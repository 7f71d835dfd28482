"""Vectors from hashed words, for tests: no model, the same on every machine, and near each other where texts share words."""

import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nexusrag.providers.embeddings.port import EmbeddingModel, checked

_DIMENSIONS = 384
# The second half of the buckets counts downwards, so that texts without a common word are at right angles on average.
_BUCKETS = 2 * _DIMENSIONS
_WORD = re.compile(r"\w+")


class FakeEmbedder:
    """An `Embedder`: a bag of lower-cased words, each adding or taking away 1 in two places that its CRC-32 chooses."""

    model = EmbeddingModel("fake/hash-384", _DIMENSIONS, 8192)

    async def embed(self, texts: Sequence[str], *, urgent: bool = False, tenant_id: str = "") -> NDArray[np.float32]:
        return checked(self.model, len(texts), np.stack([_vector(text) for text in texts]) if texts else [])

    async def close(self) -> None:
        return None


def _vector(text: str) -> NDArray[np.float32]:
    places: list[int] = []
    for word in _WORD.findall(text.lower())[: FakeEmbedder.model.max_tokens]:
        places += divmod(crc32(word.encode(errors="replace")) % _BUCKETS**2, _BUCKETS)
    counts = np.bincount(places, minlength=_BUCKETS) if places else np.zeros(_BUCKETS, np.int64)
    vector: NDArray[np.float32] = (counts[:_DIMENSIONS] - counts[_DIMENSIONS:]).astype(np.float32)
    if not vector.any():  # no words, or words that cancel out
        vector[0] = 1
    return vector
