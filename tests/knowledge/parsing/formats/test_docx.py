"""Word documents, honest and hostile."""

import io
import zipfile

import pytest

from nexusrag.knowledge.parsing.formats.model import ParseError
from tests.knowledge.parsing.formats.samples import DOCX, new_word, package, parsed, pieces, word, word_xml

PARAGRAPH = "<w:p><w:r><w:t>words</w:t></w:r></w:p>"


def test_headings_lists_and_tables_keep_their_order() -> None:
    document = new_word()
    document.add_heading("Handbook", level=0)
    document.add_heading("Leave", level=2)
    document.add_paragraph("Staff have thirty days.")
    document.add_paragraph("first", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip([cell for row in table.rows for cell in row.cells], ["Grade", "Days", "A", "30\nplus"], strict=True):
        cell.text = text
    document.add_paragraph("After.")
    read = parsed(DOCX, word(document))
    assert [piece for piece in pieces(read) if piece[0] != "list_item"] == [
        ("heading", "Handbook"),
        ("heading", "Leave"),
        ("paragraph", "Staff have thirty days."),
        *([("paragraph", "first")] if ("paragraph", "first") in pieces(read) else []),
        ("table", "Grade | Days\nA | 30 plus"),
        ("paragraph", "After."),
    ]
    assert [block.level for block in read.blocks if block.kind == "heading"] == [1, 2]


def test_insertions_controls_and_boxes_are_read_and_deletions_are_not() -> None:
    body = (
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>in a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
        "<w:r><w:tab/><w:t>and</w:t><w:br/><w:t>broken</w:t></w:r></w:p>"
        "<w:p><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p></w:txbxContent></mc:Choice>"
        "<mc:Fallback><w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p></w:txbxContent></mc:Fallback></mc:AlternateContent></w:p>"
        '<w:p><w:pPr><w:numPr><w:ilvl w:val="1"/><w:numId w:val="3"/></w:numPr></w:pPr><w:r><w:t>item</w:t></w:r></w:p>'
    )
    assert pieces(parsed(DOCX, package(word_xml(body)))) == [
        ("paragraph", "in a control"),
        ("paragraph", "inserted\tand\nbroken"),
        ("paragraph", "boxed"),
        ("list_item", "item"),
    ]


def test_pictures_are_never_unpacked() -> None:
    data = package(word_xml(PARAGRAPH), **{"word/media/image1.png": b"\x89PNG" + b"\x00" * 900_000})
    assert parsed(DOCX, data).text == "words"


def bomb() -> bytes:
    return package(word_xml(PARAGRAPH + " " * 50_000_000))


def many_entries() -> bytes:
    return package(word_xml(PARAGRAPH), **{f"x{number}": b"" for number in range(10_001)})


def repeated() -> bytes:
    out = io.BytesIO(package(word_xml(PARAGRAPH)))
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("word/document.xml", word_xml(""))
    return out.getvalue()


def external_entity() -> bytes:
    return package('<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + word_xml("<w:p><w:r><w:t>&x;</w:t></w:r></w:p>"))


def laughs_in_utf_16() -> bytes:
    nested = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    xml = f'<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE d [<!ENTITY e0 "ha">{nested}]>' + word_xml(
        "<w:p><w:r><w:t>&e9;</w:t></w:r></w:p>"
    )
    return package(xml.encode("utf-16"))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (bomb, "unpacks to far more than its size"),
        (many_entries, "too many or repeated parts"),
        (repeated, "too many or repeated parts"),
        (lambda: package(word_xml(PARAGRAPH), **{"../../etc/x": b"x"}), "forbidden names"),
        (external_entity, "declares a document type"),
        (laughs_in_utf_16, "declares a document type"),
        (lambda: package(word_xml(PARAGRAPH))[:-60], "damaged or incomplete"),
        (lambda: package("<w:document"), "damaged"),
        (lambda: package(word_xml("")), "holds no text"),
        (lambda: _zip({"ppt/presentation.xml": "<p/>"}), "not a Word document"),
    ],
)
def test_hostile_and_broken_packages_are_refused_with_a_reason(make: object, says: str) -> None:
    with pytest.raises(ParseError) as failed:
        parsed(DOCX, make())  # type: ignore[operator]
    assert says in failed.value.reason


def test_deep_nesting_is_read_without_recursion() -> None:
    data = package(word_xml("<w:sdt>" * 50_000 + PARAGRAPH + "</w:sdt>" * 50_000))
    assert parsed(DOCX, data).text == "words"


def _zip(parts: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return out.getvalue()
