"""The fake model."""

from nexusrag.providers.llm.fake import FakeModel
from tests.providers.llm.helpers import prompt, read


async def test_it_says_the_same_in_as_many_deltas_as_were_set() -> None:
    for count in (1, 20, 100):
        pieces, used = await read(FakeModel(count))
        assert len(pieces) == count
        assert used.estimated
        assert await read(FakeModel(count)) == (pieces, used)


async def test_it_points_to_the_first_passage_if_there_is_one() -> None:
    pieces, _ = await read(FakeModel(), prompt("q", "A passage."))
    assert "".join(pieces).endswith("[1].")
    assert "[1]" not in "".join((await read(FakeModel()))[0])


async def test_a_delay_is_kept_between_deltas() -> None:
    pieces, _ = await read(FakeModel(3, delay_ms=1))
    assert len(pieces) == 3
