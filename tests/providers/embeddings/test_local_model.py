"""all-MiniLM-L6-v2 as we run it gives the vectors that its authors' own library gives."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from nexusrag.providers.embeddings.local import weights
from nexusrag.providers.embeddings.local.model import MiniLM
from nexusrag.providers.embeddings.local.weights import TOKENS, Floats, ModelMissing, Safetensors, model_directory, shapes, verify

pytestmark = pytest.mark.slow

# First components by sentence-transformers on torch, as the model's authors publish them, and by this code for the rest.
EXAMPLE = ("This is an example sentence", [0.0676569, 0.0634960, 0.0487131, 0.0793050, 0.0374480])
GOLDEN = [
    EXAMPLE,
    ("", [-0.1188384, 0.0482987, -0.0025481, -0.0110112, 0.0519507]),
    ("How do I rotate the encryption keys of a tenant?", [0.0661409, 0.0107019, -0.0579874, -0.0262071, -0.0924424]),
]


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM()


def one(model: MiniLM, text: str) -> Floats:
    vector: Floats = model.embed(model.tokenise([text]))[0]
    return vector


@pytest.mark.parametrize(("text", "start"), GOLDEN)
def test_vectors_are_those_of_the_published_model(model: MiniLM, text: str, start: list[float]) -> None:
    vector = one(model, text)
    np.testing.assert_allclose(vector[: len(start)], start, atol=2e-6)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_a_question_is_nearest_to_its_answer(model: MiniLM) -> None:
    question = one(model, "How long are invoices kept?")
    answer = one(model, "Accounting records are retained for ten years.")
    other = one(model, "The canteen opens at eleven o'clock.")
    assert question @ answer > question @ other + 0.2


def test_neighbours_and_order_in_a_batch_change_nothing(model: MiniLM) -> None:
    texts = ["short", "a text of a few more words than that", "", "word " * 300, "naïve — «mixed» 日本語 🙂"]
    together = model.embed(model.tokenise(texts))
    backwards = model.embed(model.tokenise(texts[::-1]))[::-1]
    alone = np.stack([one(model, text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(backwards, alone, atol=1e-5)


def test_of_a_long_text_the_first_tokens_count(model: MiniLM) -> None:
    long = "tenant " * (TOKENS - 2)  # two tokens mark its ends
    assert len(model.tokenise([long])[0]) == len(model.tokenise([long + "unseen words"])[0]) == TOKENS
    np.testing.assert_array_equal(one(model, long), one(model, long + "unseen words"))
    assert not np.array_equal(one(model, long), one(model, long[:-7]))


def test_giving_memory_back_changes_nothing(model: MiniLM) -> None:
    before = one(model, "the same text")
    model.release()
    np.testing.assert_array_equal(one(model, "the same text"), before)


def test_the_weights_have_the_shapes_that_the_graph_declares() -> None:
    copied = Safetensors(model_directory() / "model.safetensors").graph_weights()
    assert [(name, weight.shape) for name, weight in copied.items()] == [tuple(shape) for shape in shapes()]


def test_a_missing_model_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    with pytest.raises(ModelMissing, match="make install"):
        model_directory()


def test_files_of_another_revision_are_refused(tmp_path: Path) -> None:
    for name in weights.DIGESTS:
        shutil.copy(model_directory() / name, tmp_path)
    verify(tmp_path)
    with (tmp_path / "tokenizer.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelMissing, match=r"tokenizer\.json"):
        verify(tmp_path)
