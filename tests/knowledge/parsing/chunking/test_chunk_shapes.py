"""How documents are cut: at headings, then paragraphs, sentences, words."""

import pytest

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.parsing.chunking import Chunk, check_chunk_params, chunk, embedded_text
from tests.knowledge.parsing.formats.samples import body, heading, parsed, pdf


def cut(markdown: str, size: int, overlap: int = 0) -> list[Chunk]:
    return chunk(parsed("text/markdown", markdown.encode()), size, overlap)


def test_headings_begin_chunks_and_form_their_path() -> None:
    chunks = cut("# Book\n\n## One\n\nFirst.\n\n## Two\n\nSecond.\n\n# Annex\n\nThird.", 200)
    assert [(piece.heading_path, piece.text) for piece in chunks] == [
        (("Book", "One"), "# Book\n\n## One\n\nFirst."),
        (("Book", "Two"), "## Two\n\nSecond."),
        (("Annex",), "# Annex\n\nThird."),
    ]


def test_paragraphs_are_packed_up_to_the_size() -> None:
    assert [piece.text for piece in cut("Aaaa.\n\nBbbb.\n\nCccc.", 13)] == ["Aaaa.\n\nBbbb.", "Cccc."]


def test_long_paragraphs_are_cut_between_sentences_and_long_sentences_between_words() -> None:
    text = "One is short. Two is short too. " + "Word " * 12 + "end."
    assert [piece.text for piece in cut(text, 33)] == [
        "One is short. Two is short too.",
        "Word Word Word Word Word Word",
        "Word Word Word Word Word Word",
        "end.",
    ]


def test_overlap_repeats_whole_sentences_and_stops_at_headings() -> None:
    text = "Alpha comes first. Beta is second. Gamma is third.\n\nDelta is the fourth sentence.\n\n# New\n\nEpsilon."
    first, second, third = cut(text, 60, 40)
    assert first.text == "Alpha comes first. Beta is second. Gamma is third."
    assert second.text == "Gamma is third.\n\nDelta is the fourth sentence."
    assert third.text == "# New\n\nEpsilon."


def test_table_is_whole_up_to_four_chunks_with_its_heading() -> None:
    table = "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 20
    (piece,) = cut("# Figures\n\n" + table, 80)
    assert piece.text == "# Figures\n\n" + table.strip()


def test_larger_table_is_cut_by_rows_and_each_part_is_embedded_with_the_header() -> None:
    table = "| name | size |\n|---|---|\n" + "".join(f"| row{row} | {row} |\n" for row in range(60))
    chunks = cut("# Figures\n\nBefore.\n\n" + table + "\nAfter.", 120, 50)
    assert chunks[0].text == "# Figures\n\nBefore."
    assert chunks[1].text.startswith("| name | size |")
    assert chunks[1].table_header == ""
    parts = chunks[2:-1]
    assert all(part.table_header == "| name | size |" and "name" not in part.text for part in parts)
    assert embedded_text(parts[0]).startswith("Figures\n| name | size |\n| row")
    assert all(line.startswith("|") and line.endswith("|") for part in parts for line in part.text.split("\n"))
    assert chunks[-1].text == "After."


def test_embedded_text_names_the_headings_that_the_chunk_does_not_show() -> None:
    chunks = cut("# Book\n\n## One\n\n" + "A sentence of some length here. " * 8, 100)
    assert embedded_text(chunks[0]).startswith("# Book\n\n## One\n\nA sentence")
    assert embedded_text(chunks[1]).startswith("Book > One\nA sentence")


def test_hash_changes_with_what_is_embedded_and_with_nothing_else() -> None:
    one, same, other = cut("# A\n\nx y z.", 50)[0], cut("\n\n# A\n\nx y z.", 50)[0], cut("# B\n\nx y z.", 50)[0]
    assert one.hash == same.hash != other.hash
    assert len(one.hash) == 32


def test_chunks_of_a_pdf_know_their_pages() -> None:
    paragraphs = [body(f"Paragraph {number} says something about the matter at hand, in a sentence. " * 6) for number in range(20)]
    document = parsed("application/pdf", pdf(heading("Report"), *paragraphs))
    chunks = chunk(document, 1200, 150)
    assert chunks[0].page == 1
    assert chunks[-1].page_end == document.pages == 2
    assert any(piece.page == 1 and piece.page_end == 2 for piece in chunks)


def test_five_megabytes_without_a_break_are_cut() -> None:
    for text in ("x" * 5_000_000, "word " * 1_000_000):
        chunks = chunk(parsed("text/plain", text.encode()), 1200, 150)
        assert len(chunks) == pytest.approx(5_000_000 / 1200, rel=0.2)
        assert max(len(piece.text) for piece in chunks) <= 1200


def test_hard_cuts_leave_characters_with_their_marks() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert all(piece.text.startswith("\U0001f468") for piece in cut(family * 50, 42))


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (10**9, 0), (100, 100), (100, 101), (100, -1)])
def test_parameters_that_do_not_fit_together_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(ApiError) as refused:
        check_chunk_params(size, overlap)
    assert refused.value.code is ErrorCode.INGEST_VALIDATION_ERROR


def test_parameters_that_fit_are_accepted() -> None:
    check_chunk_params(1, 0)
    check_chunk_params(1200, 1199)
