"""What holds for every document, every size and every overlap."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexusrag.knowledge.parsing.chunking import TABLE_FACTOR, chunk
from nexusrag.knowledge.parsing.formats.builder import Builder
from nexusrag.knowledge.parsing.formats.model import Block, ParsedDocument, ParseError, ParseLimits

WORDS = st.sampled_from(
    ["a", "Mr.", "end.", "What?", "“Yes.”", "1.", "e.g.", "naïve", "…", "中文。", "x" * 70, "|", "\n", "\n\n", "- ", "#", "\u200d"]
)
PROSE = st.lists(WORDS, max_size=60).map(" ".join)
KINDS = st.sampled_from(["heading", "paragraph", "list_item", "table", "code"])


@st.composite
def documents(draw: st.DrawFn) -> ParsedDocument:
    """Either blocks as parsers make them, or any text with blocks that leave gaps."""
    if draw(st.booleans()):
        builder = Builder(ParseLimits())
        for kind, text in draw(st.lists(st.tuples(KINDS, PROSE), min_size=1, max_size=12)):
            builder.add(kind, text, level=draw(st.integers(1, 6)) if kind == "heading" else 0, page=draw(st.none() | st.integers(1, 3)))
        try:
            return builder.build()
        except ParseError:
            pass
    text = draw(PROSE | st.text(max_size=300))
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    blocks = [Block(draw(KINDS), start, end, 1) for start, end in zip(places[::2], places[1::2], strict=False)]
    return ParsedDocument(text, tuple(blocks))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=documents(), size=st.integers(1, 200), share=st.floats(0, 0.99))
def test_chunks_are_ranges_in_order_that_cover_all_and_keep_their_size(document: ParsedDocument, size: int, share: float) -> None:
    overlap = int(size * share)
    chunks = chunk(document, size, overlap)
    covered = 0
    for number, piece in enumerate(chunks):
        assert piece.ord == number
        assert piece.text == document.text[piece.start : piece.end]
        assert piece.text and piece.text == piece.text.strip()
        assert not document.text[covered : piece.start].strip()
        assert piece.end > covered
        assert covered - piece.start <= overlap
        if len(piece.text) > size:
            tables = [block for block in document.blocks if block.kind == "table" and block.start < piece.end and block.end > piece.start]
            assert tables and len(piece.text) <= TABLE_FACTOR * size
        covered = piece.end
    assert not document.text[covered:].strip()
    assert chunk(document, size, overlap) == chunks
