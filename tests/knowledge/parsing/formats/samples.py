"""Small real documents of every format, and hostile ones."""

import io
import zipfile
import zlib
from collections.abc import Sequence

import docx
from docx.document import Document
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen import canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Table

from nexusrag.knowledge.parsing.formats.model import Block, ParsedDocument, ParseLimits, no_progress
from nexusrag.knowledge.parsing.formats.registry import parse

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_STYLES = getSampleStyleSheet()


def parsed(media_type: str, data: bytes, limits: ParseLimits | None = None) -> ParsedDocument:
    return parse(media_type, io.BytesIO(data), limits or ParseLimits(), no_progress)


def pieces(document: ParsedDocument) -> list[tuple[str, str]]:
    """Kind and text of every block."""
    return [(block.kind, of(document, block)) for block in document.blocks]


def of(document: ParsedDocument, block: Block) -> str:
    return document.text[block.start : block.end]


def pdf(*flowables: object, encrypt: StandardEncryption | None = None) -> bytes:
    out = io.BytesIO()
    SimpleDocTemplate(out, pagesize=A4, encrypt=encrypt).build(list(flowables))
    return out.getvalue()


def heading(text: str) -> Paragraph:
    return Paragraph(text, _STYLES["Heading1"])


def body(text: str) -> Paragraph:
    return Paragraph(text, _STYLES["BodyText"])


def ruled_table(rows: Sequence[Sequence[str]]) -> Table:
    return Table(rows, style=[("GRID", (0, 0), (-1, -1), 0.5, colors.black)])


def two_columns(left: Sequence[str], right: Sequence[str], title: str) -> bytes:
    """A page whose content stream alternates between the columns, line by line."""
    out = io.BytesIO()
    page = canvas.Canvas(out, pagesize=A4)
    page.setFont("Helvetica-Bold", 18)
    page.drawString(60, 800, title)
    page.setFont("Helvetica", 9.5)
    for row, (one, other) in enumerate(zip(left, right, strict=True)):
        page.drawString(50, 760 - 12.5 * row, one)
        page.drawString(310, 760 - 12.5 * row, other)
    page.save()
    return out.getvalue()


def pdf_without_text() -> bytes:
    out = io.BytesIO()
    page = canvas.Canvas(out, pagesize=A4)
    page.rect(100, 100, 300, 300, fill=1)
    page.save()
    return out.getvalue()


def raw_pdf(content: bytes, filters: str, pages: int = 1) -> bytes:
    """One page object listed `pages` times, whose content stream is `content` under `filters`."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, b"3 0 R " * pages),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        b"<</Length %d/Filter[%s]>>stream\n%s\nendstream" % (len(content), filters.encode(), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out = io.BytesIO(b"")
    out.write(b"%PDF-1.7\n")
    places = []
    for number, text in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj %s endobj\n" % (number, text))
    start = out.tell()
    out.write(b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % start)
    return out.getvalue()


def flate_bomb(megabytes: int) -> bytes:
    """A content stream that unpacks to `megabytes`, from two layers of compression."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b"BT /F 9 Tf (x) Tj ET\n" * 50_000) for _ in range(megabytes)) + packer.flush()
    return raw_pdf(zlib.compress(packed, 9), "/FlateDecode/FlateDecode")


def word(document: Document) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def new_word() -> Document:
    return docx.Document()


def package(body_xml: str | bytes, **others: bytes) -> bytes:
    """A DOCX with only the parts that are read."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", body_xml)
        for name, data in others.items():
            archive.writestr(name, data)
    return out.getvalue()


def word_xml(body_xml: str) -> str:
    namespaces = (
        'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    )
    return f"<w:document {namespaces}><w:body>{body_xml}</w:body></w:document>"
