"""Whatever a provider answers, `checked` gives unit vectors of the right shape or refuses."""

from typing import Any

import numpy as np
import pytest

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.embeddings.port import EmbeddingModel, checked

MODEL = EmbeddingModel("test/three", 3, 10)


def test_vectors_get_length_one_and_keep_their_direction() -> None:
    given: list[list[float]] = [[3, 0, 4], [1e-6, 0, 0], [3e38, 3e38, 3e38]]
    vectors = checked(MODEL, 3, given)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, np.array([[0.6, 0, 0.8], [1, 0, 0], [3**-0.5] * 3]), rtol=1e-6)


def test_no_texts_give_no_rows_of_the_right_width() -> None:
    assert checked(MODEL, 0, []).shape == (0, 3)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([[1, 0, 0]], id="too few"),
        pytest.param([[1, 0], [0, 1]], id="another dimension"),
        pytest.param([[1, 0, 0], [1, 0]], id="ragged"),
        pytest.param([1, 0, 0], id="no rows"),
        pytest.param([["a", "b", "c"], [1, 0, 0]], id="words"),
        pytest.param([None, [1, 0, 0]], id="null"),
        pytest.param([[1, 0, 0], [float("nan"), 0, 0]], id="nan"),
        pytest.param([[1, 0, 0], [float("inf"), 0, 0]], id="infinite"),
        pytest.param([[1, 0, 0], [1e300, 0, 0]], id="beyond single precision"),
        pytest.param([[1, 0, 0], [0, 0, 0]], id="zero"),
    ],
)
def test_what_is_no_list_of_two_vectors_is_refused(given: Any) -> None:
    with pytest.raises(ApiError) as failure:
        checked(MODEL, 2, given)
    assert failure.value.code is ErrorCode.INTEGRATION_UNAVAILABLE
