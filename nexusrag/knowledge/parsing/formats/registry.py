"""Which formats are read, how a file's format is known, and which module reads it.

The name says what a file should be, the declared type fills in where the name says nothing, and the bytes must agree: a file that
is not what it claims is refused, never guessed.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePosixPath
from typing import BinaryIO, Literal, cast

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.parsing.formats.model import PageProgress, ParsedDocument, ParseError, ParseLimits, Parser

HEAD_BYTES = 4096
"""How much of a file `detect` needs."""

_HERE = "nexusrag.knowledge.parsing.formats"


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file. `body` is what its bytes look like; `module` has a function `parse` (a `Parser`)."""

    media_type: str
    name: str
    extensions: tuple[str, ...]
    aliases: tuple[str, ...]
    body: Literal["text", "pdf", "zip"]
    module: str


FORMATS: tuple[Format, ...] = (
    Format("text/plain", "text file", (".txt", ".text", ".log"), (), "text", f"{_HERE}.text"),
    Format("text/markdown", "Markdown file", (".md", ".markdown", ".mdown"), ("text/x-markdown",), "text", f"{_HERE}.markdown"),
    Format("application/json", "JSON file", (".json",), ("text/json",), "text", f"{_HERE}.json_text"),
    Format("text/html", "HTML page", (".html", ".htm", ".xhtml"), ("application/xhtml+xml",), "text", f"{_HERE}.html"),
    Format("application/pdf", "PDF", (".pdf",), ("application/x-pdf",), "pdf", f"{_HERE}.pdf"),
    Format(
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "Word document", (".docx",), (), "zip", f"{_HERE}.docx"
    ),
)
_BY_TYPE = {name: format for format in FORMATS for name in (format.media_type, *format.aliases)}
_BY_EXTENSION = {extension: format for format in FORMATS for extension in format.extensions}
_UNDECLARED = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-download"})

# First bytes → what a person calls it. Formats that we read have names of their own below.
_PDF = b"%PDF-"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
    (b"\xfe\xed\xfa", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\x00asm", "a program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x89PNG\r\n\x1a\n", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"II*\x00", "a picture"),
    (b"MM\x00*", "a picture"),
    (b"RIFF", "a sound or picture file"),
    (b"OggS", "a sound file"),
    (b"ID3", "a sound file"),
    (b"SQLite format 3\x00", "a database"),
    (b"%!PS", "a PostScript file"),
    (b"{\\rtf", "an RTF document"),
    (b"-----BEGIN PGP MESSAGE", "an encrypted message"),
)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\x0b\x0c\r\x1b"))


def detect(filename: str, declared_type: str | None, head: bytes) -> str:
    """The media type under which the file is to be parsed. `head` is its first `HEAD_BYTES` bytes.

    Raises ApiError: INGEST_VALIDATION_ERROR for an empty file, UNSUPPORTED_MEDIA_TYPE for a format that is not read or for
    content that contradicts the claim.
    """
    if not head:
        raise ApiError(ErrorCode.INGEST_VALIDATION_ERROR, "The file is empty.")
    extension = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
    declared = (declared_type or "").partition(";")[0].strip().lower()
    body, looks = _look(head)
    claimed = _BY_EXTENSION.get(extension) or _BY_TYPE.get(declared)
    if claimed is None:
        if looks or (declared not in _UNDECLARED and not declared.startswith("text/")):
            raise _unsupported(f"Files of this kind ({looks or declared}) are not read; {_supported()}.")
        claimed = next(format for format in FORMATS if format.body == body)
        if body == "zip":
            raise _unsupported(f"ZIP archives and Office files of this kind are not read; {_supported()}.")
    if claimed.body == "pdf" and _PDF in head[:1024]:
        return claimed.media_type  # some writers and mail systems put a few bytes of their own before a PDF
    if claimed.body != body or looks:
        if looks == _OLD_OFFICE and claimed.body == "zip":
            raise _unsupported("The Word document is encrypted or in the old .doc format; save it as .docx without a password.")
        raise _unsupported(f"The file claims to be a {claimed.name}, but its content is {looks or _CONTENT[body]}.")
    return claimed.media_type


def parse(media_type: str, source: BinaryIO, limits: ParseLimits, progress: PageProgress) -> ParsedDocument:
    """Parse `source` by the module of `media_type`, which is imported now. Raises ParseError."""
    format = _BY_TYPE.get(media_type)
    if format is None:
        raise ParseError(f"Files of type {media_type} are not read; {_supported()}.")
    parser = cast(Parser, import_module(format.module).parse)
    return parser(source, limits, progress)


_OLD_OFFICE = "an old or encrypted Office document"
_CONTENT = {"text": "text", "pdf": "a PDF", "zip": "a ZIP archive or an Office document"}


def _look(head: bytes) -> tuple[Literal["text", "pdf", "zip"], str]:
    """The body that the bytes have, and a name for them where that is nothing we read."""
    if head.startswith(_OLE):
        return "zip", _OLD_OFFICE
    if head.startswith(_ZIP):
        return "zip", ""
    if head[:1024].lstrip(b"\x00\t\n\x0c\r \xef\xbb\xbf").startswith(_PDF):
        return "pdf", ""
    for magic, name in _FOREIGN:
        if head.startswith(magic) and not (magic in (b"MZ", b"BZh", b"ID3", b"GIF8", b"RIFF", b"OggS") and _is_text(head)):
            return "text", name
    if head[4:8] == b"ftyp":
        return "text", "a film or picture"
    return "text", "" if _is_text(head) else "binary data"


def _is_text(head: bytes) -> bool:
    """Whether bytes may be text: few control characters, or UTF-16 with its mark. A few NULs are tolerated (and removed later)."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return len(head) % 2 == 0 or len(head) >= HEAD_BYTES
    odd = len(head) - len(head.translate(None, _CONTROL))
    return odd <= max(2, len(head) // 20) or head[1::2].count(0) * 10 > 8 * len(head[1::2])


def _supported() -> str:
    return "supported are text, Markdown, JSON with a text member, HTML, PDF and Word (.docx)"


def _unsupported(message: str) -> ApiError:
    return ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message)
