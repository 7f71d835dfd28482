"""The fake embedder: the same everywhere, and a little like a real one."""

import numpy as np

from nexusrag.providers.embeddings.fake import FakeEmbedder


async def test_texts_that_share_words_are_nearer_than_others() -> None:
    question, near, far = await FakeEmbedder().embed(
        ["Which keys rotate every month?", "The keys rotate every month.", "Lunch is served at noon."]
    )
    assert question @ near > 0.7
    assert abs(question @ far) < 0.3


async def test_the_same_text_has_the_same_vector_in_every_process() -> None:
    vectors = await FakeEmbedder().embed(["alpha beta", "BETA, alpha"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert {int(place): round(float(vectors[0, place]), 3) for place in vectors[0].nonzero()[0]} == {
        106: 0.5,
        129: -0.5,
        275: 0.5,
        355: 0.5,
    }


async def test_a_text_without_words_still_has_a_direction() -> None:
    vectors = await FakeEmbedder().embed(["", " \n", "?!", "\ud800"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)


async def test_no_texts_give_no_rows() -> None:
    assert (await FakeEmbedder().embed([])).shape == (0, 384)
