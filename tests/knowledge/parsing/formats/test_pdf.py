"""PDF: order, structure, tables, and files that cannot be read."""

import io
import random

import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.platypus import PageBreak

from nexusrag.knowledge.parsing.formats.model import ParseError, ParseLimits
from nexusrag.knowledge.parsing.formats.pdf import parse
from tests.knowledge.parsing.formats.samples import (
    body,
    heading,
    of,
    parsed,
    pdf,
    pdf_without_text,
    pieces,
    raw_pdf,
    ruled_table,
    two_columns,
)

PDF = "application/pdf"
LONG = "Retrieval finds passages that answer a question, and a citation points at the place where the words stand. " * 6
SHORT = "A second paragraph follows after a gap and it is much shorter than the one above it."


def test_headings_paragraphs_and_pages() -> None:
    document = parsed(PDF, pdf(heading("Chapter one"), body(LONG), body(SHORT), PageBreak(), heading("Chapter two"), body(LONG)))
    assert pieces(document) == [
        ("heading", "Chapter one"),
        ("paragraph", LONG.strip()),
        ("paragraph", SHORT),
        ("heading", "Chapter two"),
        ("paragraph", LONG.strip()),
    ]
    assert [block.page for block in document.blocks] == [1, 1, 1, 2, 2]
    assert [block.level for block in document.blocks] == [1, 0, 0, 1, 0]
    assert document.pages == 2


def test_columns_that_interleave_in_the_file_are_read_one_after_the_other() -> None:
    words = random.Random(3)
    line = lambda mark: " ".join([mark, *(words.choice(["alpha", "beta", "gamma", "delta", "omega"]) for _ in range(8))])[:44]  # noqa: E731
    left, right = ([line(f"{side}{row}") for row in range(40)] for side in "LR")
    text = parsed(PDF, two_columns(left, right, "A title that spans both columns of the page")).text
    marks = [word for word in text.split() if word[0] in "LR" and word[1:].isdigit()]
    assert text.startswith("A title that spans both columns of the page")
    assert marks == [f"L{row}" for row in range(40)] + [f"R{row}" for row in range(40)]
    assert all(" ".join(row.split()) in text for row in left + right)


def test_key_value_table_without_rules_is_no_pair_of_columns() -> None:
    data = two_columns([f"Key{row}" for row in range(30)], [f"value {row}" for row in range(30)], "Settings")
    assert "Key7 value 7" in parsed(PDF, data).text.replace("\n", " ")


def test_ruled_table_becomes_rows_in_its_place() -> None:
    rows = [["Name", "Price", "Quantity"], ["Apple", "1.20", "5"], ["Dragon fruit", "9.99", "1"]]
    document = parsed(PDF, pdf(body("Before the table."), ruled_table(rows), body("After the table.")))
    assert pieces(document) == [
        ("paragraph", "Before the table."),
        ("table", "Name | Price | Quantity\nApple | 1.20 | 5\nDragon fruit | 9.99 | 1"),
        ("paragraph", "After the table."),
    ]


def test_tables_keep_their_words_when_time_for_them_is_up() -> None:
    data = pdf(ruled_table([["Name", "Price"], ["Apple", "1.20"]]))
    document = parsed(PDF, data, ParseLimits(table_seconds=-1))
    assert all(block.kind == "paragraph" for block in document.blocks)
    assert "Apple" in document.text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (pdf(body(LONG), encrypt=StandardEncryption("secret", "owner", strength=128)), "encrypted; remove the password"),
        (pdf(body(LONG))[:-400], "damaged or incomplete"),
        (b"%PDF-1.7\n" + bytes(range(256)) * 40 + b"%%EOF", "damaged or incomplete"),
        (b"%PDF-1.7\n%%EOF", "damaged or incomplete"),
        (pdf_without_text(), "only pictures (a scan)"),
        (raw_pdf(b"BT /F 9 Tf (x) Tj ET", "", pages=6000), "6,000 pages"),
    ],
)
def test_unreadable_files_say_what_to_do(data: bytes, says: str) -> None:
    with pytest.raises(ParseError) as failed:
        parsed(PDF, data)
    assert says in failed.value.reason


def test_owner_password_alone_does_not_stop_reading() -> None:
    document = parsed(PDF, pdf(body(SHORT), encrypt=StandardEncryption("", "owner", canCopy=0, strength=128)))
    assert document.text == SHORT


def test_progress_counts_pages() -> None:
    seen: list[tuple[int, int]] = []
    data = pdf(body("One."), PageBreak(), body("Two."))
    parse(io.BytesIO(data), ParseLimits(), lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_offsets_point_at_each_block() -> None:
    document = parsed(PDF, pdf(heading("Top"), body(LONG), body(SHORT)))
    assert [of(document, block) for block in document.blocks] == document.text.split("\n\n")
