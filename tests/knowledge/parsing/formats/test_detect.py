"""What a file is: its name, its declared type and its bytes together."""

import pytest

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.parsing.formats.registry import detect
from tests.knowledge.parsing.formats.samples import DOCX, body, new_word, pdf, word

PDF = pdf(body("Words."))[:4096]
WORD = word(new_word())[:4096]
PROGRAM = b"MZ\x90\x00\x03\x00\x00\x00" + bytes(range(256)) * 4


@pytest.mark.parametrize(
    ("filename", "declared", "head", "expected"),
    [
        ("a.txt", "text/plain", b"words", "text/plain"),
        ("a.txt", "text/plain; charset=utf-8", "\ufeffwörds".encode("utf-16"), "text/plain"),
        ("a.md", "application/octet-stream", b"# Title", "text/markdown"),
        ("A.MD", None, b"# Title", "text/markdown"),
        ("a.json", "", b'{"text": "x"}', "application/json"),
        ("page", "text/html; charset=utf-8", b"<html>", "text/html"),
        ("a.pdf", "text/plain", PDF, "application/pdf"),
        ("a.pdf", "application/pdf", b"junk before\n" + PDF, "application/pdf"),
        ("a.docx", "application/octet-stream", WORD, DOCX),
        ("notes", "", b"words", "text/plain"),
        ("figures.csv", "text/csv", b"a,b\n1,2\n", "text/plain"),
        ("scan", "", PDF, "application/pdf"),
        ("a.txt", "text/plain", b"BM and MZ are how some files begin", "text/plain"),
        ("a.txt", "text/plain", b"a NUL \x00 or two", "text/plain"),
        ("..\\..\\a.txt", "", b"words", "text/plain"),
    ],
)
def test_type_of_an_honest_file(filename: str, declared: str | None, head: bytes, expected: str) -> None:
    assert detect(filename, declared, head) == expected


@pytest.mark.parametrize(
    ("filename", "declared", "head", "says"),
    [
        ("a.txt", "text/plain", PDF, "a PDF"),
        ("a.txt", "text/plain", b"\xef\xbb\xbf \n" + PDF, "a PDF"),
        ("a.txt", "text/plain", WORD, "ZIP"),
        ("a.txt", "text/plain", PROGRAM, "a Windows program"),
        ("a.md", "text/markdown", b"\x7fELF\x02\x01\x01", "a program"),
        ("a.txt", "text/plain", b"\x89PNG\r\n\x1a\n\x00\x00", "a picture"),
        ("a.txt", "text/plain", bytes(range(256)), "binary data"),
        ("a.pdf", "application/pdf", b"just words", "text"),
        ("a.pdf", "application/pdf", WORD, "ZIP"),
        ("a.docx", DOCX, PDF, "a PDF"),
        ("a.docx", DOCX, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "encrypted or in the old .doc format"),
        ("blob", "application/pdf", b"just words", "text"),
        ("a.zip", "application/zip", WORD, "application/zip"),
        ("a.pptx", "", WORD, "Office files of this kind"),
        ("a.png", "image/png", b"\x89PNG\r\n\x1a\n", "picture"),
        ("a.bin", "", bytes(range(256)), "binary data"),
    ],
)
def test_lying_or_foreign_files_are_refused(filename: str, declared: str, head: bytes, says: str) -> None:
    with pytest.raises(ApiError) as refused:
        detect(filename, declared, head)
    assert refused.value.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE
    assert says in refused.value.message


def test_empty_file_is_a_validation_error() -> None:
    with pytest.raises(ApiError) as refused:
        detect("a.txt", "text/plain", b"")
    assert refused.value.code is ErrorCode.INGEST_VALIDATION_ERROR
