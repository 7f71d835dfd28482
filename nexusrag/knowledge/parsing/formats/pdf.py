"""PDF: text through PDFium, in reading order, with the page of every block. Pictures of text (scans) are refused with a reason."""

import ctypes
import io
import mmap
from typing import Any, BinaryIO

import pypdfium2
import pypdfium2.raw as pdfium

from nexusrag.knowledge.parsing.formats import pdf_layout
from nexusrag.knowledge.parsing.formats.builder import Builder
from nexusrag.knowledge.parsing.formats.characters import too_long
from nexusrag.knowledge.parsing.formats.model import PageProgress, ParsedDocument, ParseError, ParseLimits
from nexusrag.knowledge.parsing.formats.pdf_layout import Line, PageLines

_TAIL = 64 * 1024
_MAX_CHARS_IN_ORDER = 100_000
_MAX_RECTS = 20_000
_DAMAGED = "The PDF is damaged or incomplete; upload it again, or open it, print it to a new PDF and upload that."
_REASONS = {
    pdfium.FPDF_ERR_PASSWORD: "The PDF is encrypted; remove the password and upload it again.",
    pdfium.FPDF_ERR_SECURITY: "The PDF is protected in a way that is not supported; print it to a new PDF and upload that.",
}


def parse(source: BinaryIO, limits: ParseLimits, progress: PageProgress) -> ParsedDocument:
    """All pages. Tables with ruling lines become rows, as long as `limits.table_seconds` lasts."""
    data = _buffer(source)
    if bytes(data[-_TAIL:]).rfind(b"%%EOF") < 0:
        raise ParseError(_DAMAGED)
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise ParseError(_REASONS.get(error.err_code, _DAMAGED)) from error
    with document:
        pages, ruled = _pages(document, limits, progress)
    if not any(page.lines for page in pages):
        raise ParseError("The PDF holds no text, only pictures (a scan); run text recognition (OCR) on it and upload the result.")
    if ruled:
        # Here, because pdfplumber doubles the memory of the process and most documents do without.
        from nexusrag.knowledge.parsing.formats import pdf_tables  # noqa: PLC0415

        source.seek(0)
        pdf_tables.add(source, [pages[index] for index in ruled], limits.table_seconds)
    out = Builder(limits)
    pdf_layout.add_pages(out, pages)
    return out.build(pages=len(pages))


def _buffer(source: BinaryIO) -> Any:
    """The file as memory that PDFium can read: mapped where it is a real file, so that only what is looked at is loaded."""
    try:
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_COPY)
    except (io.UnsupportedOperation, OSError):
        return source.read()
    except ValueError as error:
        raise ParseError("The file is empty.") from error
    return (ctypes.c_ubyte * len(mapped)).from_buffer(mapped)


def _pages(document: Any, limits: ParseLimits, progress: PageProgress) -> tuple[list[PageLines], list[int]]:
    """Lines of each page, and the indices of pages that may hold tables."""
    total = len(document)
    if total > limits.max_pages:
        raise ParseError(f"The PDF has {total:,} pages, more than the {limits.max_pages:,} allowed; split it and upload the parts.")
    if not total:
        raise ParseError(_DAMAGED)
    pages: list[PageLines] = []
    ruled: list[int] = []
    chars = 0
    for index in range(total):
        try:
            page = document[index]
            text_page = page.get_textpage()
        except pypdfium2.PdfiumError as error:
            raise ParseError(f"Page {index + 1} of the PDF is damaged; open it, print it to a new PDF and upload that.") from error
        lines = _lines(page, text_page)
        if lines and _is_ruled(page):
            ruled.append(index)
        text_page.close()
        page.close()
        chars += sum(len(line.text) for line in lines)
        if chars > limits.max_chars:
            raise too_long(limits)
        pages.append(PageLines(index + 1, lines))
        progress(index + 1, total)
    return pages, ruled


def _lines(page: Any, text_page: Any) -> list[Line]:
    """The page's lines: in the order of the content, except where that runs across two columns."""
    count = text_page.count_rects()
    if 0 < count <= _MAX_RECTS and not page.get_rotation() and text_page.count_chars() <= _MAX_CHARS_IN_ORDER:
        width, height = page.get_size()
        rects = pdf_layout.merged(_rects(text_page.raw, count))
        x = pdf_layout.gutter(rects, width, height)
        if x is not None and pdf_layout.interleaved(rects, x):
            return pdf_layout.in_columns(_fragments(text_page.raw, text_page.count_chars(), x), x)
    return _content_order(text_page)


def _rects(raw: Any, count: int) -> list[Line]:
    left, top, right, bottom = (ctypes.c_double() for _ in range(4))
    out = []
    for index in range(count):
        if pdfium.FPDFText_GetRect(raw, index, left, top, right, bottom):
            out.append(Line("", left.value, bottom.value, right.value, top.value))
    return out


def _content_order(text_page: Any) -> list[Line]:
    """PDFium's own lines, each with the boxes of its first and last character."""
    raw = text_page.raw
    text = text_page.get_text_range()
    first, last = pdfium.FS_RECTF(), pdfium.FS_RECTF()
    out = []
    offset = 0
    for piece in text.split("\n"):
        start, words = offset, piece.strip()
        offset += len(piece) + 1
        if not words:
            continue
        start += len(piece) - len(piece.lstrip())
        begin = pdfium.FPDFText_GetCharIndexFromTextIndex(raw, start)
        end = pdfium.FPDFText_GetCharIndexFromTextIndex(raw, start + len(words) - 1)
        if pdfium.FPDFText_GetLooseCharBox(raw, begin, first):
            if not pdfium.FPDFText_GetLooseCharBox(raw, end, last):
                last.right = first.right
            out.append(Line(words, first.left, first.bottom, max(first.right, last.right), first.top))
        else:
            out.append(Line(words, 0, 0, 0, 0))
    return out


def _fragments(raw: Any, count: int, x: float) -> list[Line]:
    """Runs of characters that stand side by side on one baseline, none of them across the gutter at `x` unless it spans it unbroken."""
    box = pdfium.FS_RECTF()
    reference = ctypes.byref(box)
    out: list[Line] = []
    words: list[str] = []
    current: Line | None = None
    space = False
    for index in range(count):
        code = pdfium.FPDFText_GetUnicode(raw, index)
        if code in (0, 10, 13):
            continue
        char = chr(code) if code < 0x110000 else "\ufffd"
        if char.isspace():
            space = True
            continue
        if not pdfium.FPDFText_GetLooseCharBox(raw, index, reference):
            continue
        left, right, bottom, top = box.left, box.right, box.bottom, box.top
        height = top - bottom
        if current is not None:
            gap = left - current.right
            same = abs((top + bottom) / 2 - current.middle) <= max(height, current.height) / 2 and -height <= gap <= height
            if same and not (space and gap > height / 3 and current.right <= x + 1 and left >= x - 1):
                words.append(f" {char}" if space or gap > height / 4 else char)
                current.right = max(current.right, right)
                space = False
                continue
            current.text = "".join(words)
        current = Line("", left, bottom, right, top)
        out.append(current)
        words = [char]
        space = False
    if current is not None:
        current.text = "".join(words)
    return out


def _is_ruled(page: Any) -> bool:
    """Whether the page draws at least two horizontal and two vertical lines, or boxes."""
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    horizontal = vertical = 0
    for index in range(min(3000, pdfium.FPDFPage_CountObjects(page.raw))):
        item = pdfium.FPDFPage_GetObject(page.raw, index)
        if pdfium.FPDFPageObj_GetType(item) != pdfium.FPDF_PAGEOBJ_PATH:
            continue
        if not pdfium.FPDFPageObj_GetBounds(item, left, bottom, right, top):
            continue
        width, height = right.value - left.value, top.value - bottom.value
        horizontal += width > 20
        vertical += height > 8
        if horizontal >= 2 and vertical >= 2:
            return True
    return False
