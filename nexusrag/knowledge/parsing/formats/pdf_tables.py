"""Tables of PDF pages that draw ruling lines, through pdfplumber. It is slow (a fifth of a second per page), so time bounds it."""

import struct
import time
import zlib
from collections.abc import Sequence
from io import BufferedReader
from typing import Any, BinaryIO, cast

import pdfplumber
from pdfplumber.utils.exceptions import PdfminerException

from nexusrag.knowledge.parsing.formats.builder import row
from nexusrag.knowledge.parsing.formats.pdf_layout import PageLines, Table

# What pdfminer raises on files that PDFium can still read. The text is there already: such a page only keeps no table.
_FAULTS = (
    PdfminerException,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    OSError,
    struct.error,
    zlib.error,
)
_MAX_TABLES = 50


def add(source: BinaryIO, pages: Sequence[PageLines], seconds: float) -> None:
    """Put the tables of `pages` into them, until `seconds` have passed."""
    deadline = time.monotonic() + seconds
    try:
        with pdfplumber.open(cast(BufferedReader, source), pages=[page.number for page in pages]) as document:
            for page, found in zip(pages, document.pages, strict=False):
                if time.monotonic() > deadline:
                    return
                page.tables += [table for table in _tables(found) if _complete(table, page)]
                found.close()
    except _FAULTS:
        return


def _tables(page: Any) -> list[Table]:
    left, _, _, _ = page.mediabox
    if page.rotation or tuple(page.mediabox) != tuple(page.cropbox) or left:
        return []
    out = []
    try:
        for found in page.find_tables()[:_MAX_TABLES]:
            rows = [row([cell or "" for cell in cells]) for cells in found.extract()]
            x0, top, x1, bottom = found.bbox
            if len(rows) > 1 and max(len(cells) for cells in found.extract()) > 1:
                out.append(Table(x0, page.height - bottom, x1, page.height - top, "\n".join(line for line in rows if line)))
    except _FAULTS:
        return []
    return out


def _complete(table: Table, page: PageLines) -> bool:
    """Whether the table holds about the letters of the lines it would replace: no text may be lost to a misread grid."""
    letters = sum(char.isalnum() for line in page.lines if table.holds(line) for char in line.text)
    return letters > 0 and abs(sum(char.isalnum() for char in table.text) - letters) <= max(2, letters // 20)
