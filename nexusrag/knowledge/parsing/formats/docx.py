"""Word documents (DOCX): the body in reading order, headings by style, tables as rows. Pictures and other parts are never unpacked.

The package is read as a stream with the XML parser of the standard library: no part is held whole, no entity is ever expanded.
"""

import re
import zipfile
import zlib
from typing import BinaryIO
from xml.parsers import expat

from nexusrag.knowledge.parsing.formats.builder import Builder, row
from nexusrag.knowledge.parsing.formats.model import BlockKind, PageProgress, ParsedDocument, ParseError, ParseLimits

_MAX_ENTRIES = 10_000
_MAX_TOTAL = 200_000_000
_MAX_RATIO = 100
_RATIO_FROM = 1_000_000
_PIECE = 1 << 18

_BODY = "word/document.xml"
_STYLES = "word/styles.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")
# Transitional and strict documents name the same elements in two namespaces.
_WORD = ("http://schemas.openxmlformats.org/wordprocessingml/2006/main ", "http://purl.oclc.org/ooxml/wordprocessingml/main ")
# Text boxes come twice: for readers that know them, and as a fallback.
_FALLBACK_NAME = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_FALLBACK = "Fallback"
_SKIPPED = frozenset({_FALLBACK, "del", "moveFrom", "instrText", "delText", "pPrChange", "rPrChange", "tblPrChange", "sectPr"})
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_HEADING = re.compile(r"heading\s*([1-9])", re.IGNORECASE)


def parse(source: BinaryIO, limits: ParseLimits, progress: PageProgress) -> ParsedDocument:
    """Body, then footnotes and endnotes. Inserted text counts, deleted text does not."""
    try:
        with zipfile.ZipFile(source) as package:
            names = _checked(package)
            if _BODY not in names:
                raise ParseError("The file is not a Word document; save it as .docx and upload it again.")
            levels = _Styles.read(package) if _STYLES in names else {}
            out = Builder(limits)
            _stream(package, _BODY, _Body(out, levels))
            for part in _NOTES:
                if part in names:
                    _stream(package, part, _Body(out, levels))
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, zlib.error, ValueError) as error:
        raise ParseError("The Word document is damaged or incomplete; open it in Word, save it and upload it again.") from error
    return out.build()


def _checked(package: zipfile.ZipFile) -> set[str]:
    """The names of the package, once it is known to be no bomb. Only sizes are looked at: nothing is unpacked."""
    entries = package.infolist()
    names = {entry.filename for entry in entries}
    if len(entries) > _MAX_ENTRIES or len(names) != len(entries):
        raise ParseError("The Word document has too many or repeated parts and was not opened.")
    if any(name.startswith("/") or "\\" in name or ".." in name.split("/") for name in names):
        raise ParseError("The Word document has parts with forbidden names and was not opened.")
    if any(entry.flag_bits & 1 for entry in entries):
        raise ParseError("The Word document is encrypted; remove the password and upload it again.")
    unpacked = sum(entry.file_size for entry in entries)
    bomb = any(entry.file_size > max(_RATIO_FROM, _MAX_RATIO * entry.compress_size) for entry in entries)
    if bomb or unpacked > _MAX_TOTAL:
        raise ParseError("The Word document unpacks to far more than its size and was not opened.")
    return names


class _Handler:
    """What `_stream` calls: element names come without their namespace, "" for elements that are not Word's."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def end(self, name: str) -> None:
        raise NotImplementedError

    def text(self, data: str) -> None:
        raise NotImplementedError


def _stream(package: zipfile.ZipFile, part: str, handler: _Handler) -> None:
    """Feed one part to `handler`. Raises ParseError for broken XML and for any document type declaration."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise ParseError("The Word document declares a document type, which Word never does, and was not opened.")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda name, attributes: handler.start(_local(name), attributes)
    parser.EndElementHandler = lambda name: handler.end(_local(name))
    parser.CharacterDataHandler = handler.text
    left = _MAX_TOTAL
    try:
        with package.open(part) as stream:
            while data := stream.read(_PIECE):
                left -= len(data)
                if left < 0:
                    raise ParseError("The Word document unpacks to far more than its size and was not opened.")
                parser.Parse(data, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ParseError("The Word document is damaged; open it in Word, save it and upload it again.") from error


def _local(name: str) -> str:
    for namespace in _WORD:
        if name.startswith(namespace):
            return name[len(namespace) :]
    return _FALLBACK if name == _FALLBACK_NAME else ""


def _value(attributes: dict[str, str], name: str = "val") -> str:
    return attributes.get(_WORD[0] + name) or attributes.get(_WORD[1] + name) or ""


class _Styles(_Handler):
    """Which paragraph styles are headings: by name, by outline level, or by the style they are based on."""

    def __init__(self) -> None:
        self.levels: dict[str, int] = {}
        self.based: dict[str, str] = {}
        self._style = ""

    @classmethod
    def read(cls, package: zipfile.ZipFile) -> dict[str, int]:
        """Style id → heading level (1 to 6)."""
        styles = cls()
        _stream(package, _STYLES, styles)
        for style in styles.based:
            base = styles.based[style]
            for _ in range(16):
                if style in styles.levels or not base:
                    break
                if base in styles.levels:
                    styles.levels[style] = styles.levels[base]
                base = styles.based.get(base, "")
        return styles.levels

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "style":
            self._style = _value(attributes, "styleId")
        elif not self._style:
            return
        elif name == "name":
            label = _value(attributes)
            if found := _HEADING.fullmatch(label.strip()):
                self.levels[self._style] = min(6, int(found[1]))
            elif label.strip().lower() == "title":
                self.levels[self._style] = 1
        elif name == "basedOn":
            self.based[self._style] = _value(attributes)
        elif name == "outlineLvl":
            level = _outline(attributes)
            if level:
                self.levels.setdefault(self._style, level)

    def end(self, name: str) -> None:
        if name == "style":
            self._style = ""

    def text(self, data: str) -> None:
        pass


def _outline(attributes: dict[str, str]) -> int:
    """The heading level that an outline level stands for, 0 for body text."""
    value = _value(attributes)
    return min(6, int(value) + 1) if value.isdecimal() and int(value) < 9 else 0


class _Body(_Handler):
    """Paragraphs and tables of one part, in order. A table inside a table becomes part of the outer cell."""

    def __init__(self, out: Builder, levels: dict[str, int]) -> None:
        self._out = out
        self._levels = levels
        self._words: list[str] = []
        self._in_text = False
        self._skip = 0
        self._level = 0
        self._item = 0
        self._tables = 0
        self._rows: list[list[str]] = []
        self._cell: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._skip or name in _SKIPPED:
            self._skip += 1
        elif name == "t":
            self._in_text = True
        elif name in _BREAKS:
            self._words.append(_BREAKS[name])
        elif name == "p":
            if self._words:  # a text box inside a paragraph
                self._paragraph()
            self._level = self._item = 0
        elif name == "pStyle":
            self._level = self._levels.get(_value(attributes), 0)
        elif name == "outlineLvl":
            self._level = self._level or _outline(attributes)
        elif name == "ilvl":
            value = _value(attributes)
            self._item = min(9, int(value) + 1) if value.isdecimal() and len(value) < 3 else 1
        elif name == "numId":
            self._item = 0 if _value(attributes) == "0" else self._item or 1
        elif name == "tbl":
            self._tables += 1
        elif name == "tr" and self._tables == 1:
            self._rows.append([])

    def end(self, name: str) -> None:
        if self._skip:
            self._skip -= 1
        elif name == "t":
            self._in_text = False
        elif name == "p":
            self._paragraph()
        elif name == "tc" and self._tables == 1 and self._rows:
            self._rows[-1].append(" ".join(self._cell))
            self._cell.clear()
        elif name == "tbl":
            self._tables -= 1
            if not self._tables:
                self._out.add("table", "\n".join(line for line in map(row, self._rows) if line))
                self._rows.clear()

    def text(self, data: str) -> None:
        if self._in_text and not self._skip:
            self._words.append(data)

    def _paragraph(self) -> None:
        text = "".join(self._words)
        self._words.clear()
        kind: BlockKind = "heading" if self._level else "list_item" if self._item else "paragraph"
        if self._tables:
            self._cell.append(text)
        elif kind == "heading":
            self._out.add("heading", " ".join(text.split()), level=self._level)
        else:
            self._out.add(kind, text, level=self._item)
