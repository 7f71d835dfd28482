"""Cuts a parsed document into chunks along its structure: headings, then paragraphs, sentences, words.

A chunk is always one unbroken range of the canonical text, so that a citation can point at it; nothing but white space is left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.sentences import sentences
from nexusrag.knowledge.parsing.formats.model import Block, ParsedDocument

MAX_CHUNK_SIZE = 20_000
TABLE_FACTOR = 4
"""A table is kept whole up to this many times the size of a chunk."""

_TITLE_CHARS = 200
_HEADER_CHARS = 300
_WINDOW = 4096
_LOOK_BACK = 200
_SPACE = (" ", "\n", "\t", "\u00a0", "\u3000")
_NOT_A_START = re.compile("[\u0300-\u036f\u200c\u200d\ufe00-\ufe0f\u20d0-\u20ff\U0001f3fb-\U0001f3ff]")

PieceKind = Literal["heading", "text", "table", "rows"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """`text` is `document.text[start:end]`. Pages count from 1, None where the format has none.

    `heading_path` holds the headings that the chunk stands under, outermost first. `table_header` is the first row of a table
    that was cut by rows, where the chunk does not begin with it. `hash` is SHA-256 of `embedded_text`.
    """

    ord: int
    text: str
    start: int
    end: int
    page: int | None
    page_end: int | None
    heading_path: tuple[str, ...]
    table_header: str
    hash: bytes


def check_chunk_params(size_chars: int, overlap_chars: int) -> None:
    """Raise ApiError INGEST_VALIDATION_ERROR unless 1 ≤ size ≤ 20,000 and 0 ≤ overlap < size, in characters."""
    if not 1 <= size_chars <= MAX_CHUNK_SIZE:
        raise ApiError(
            ErrorCode.INGEST_VALIDATION_ERROR, f"chunk_size_chars must be between 1 and {MAX_CHUNK_SIZE}.", {"field": "chunk_size_chars"}
        )
    if not 0 <= overlap_chars < size_chars:
        raise ApiError(
            ErrorCode.INGEST_VALIDATION_ERROR,
            f"chunk_overlap_chars must be at least 0 and less than chunk_size_chars ({size_chars}).",
            {"field": "chunk_overlap_chars"},
        )


def embedded_text(chunk: Chunk) -> str:
    """What is embedded and hashed for a chunk: the headings that its text does not show, the header of its table, the text."""
    return _embedded(chunk.heading_path, chunk.table_header, chunk.text)


def _embedded(heading_path: tuple[str, ...], table_header: str, text: str) -> str:
    shown = {line.strip("# \t") for line in text[:1000].split("\n")} if heading_path else ()
    above = " > ".join(title for title in heading_path if title not in shown)
    return "\n".join(part for part in (above, table_header, text) if part)


def make_chunk(
    ord: int, text: str, start: int, pages: tuple[int | None, int | None], heading_path: tuple[str, ...], table_header: str
) -> Chunk:
    """A chunk with its hash."""
    digest = sha256(_embedded(heading_path, table_header, text).encode()).digest()
    return Chunk(ord, text, start, start + len(text), pages[0], pages[1], heading_path, table_header, digest)


def chunk(parsed: ParsedDocument, size_chars: int, overlap_chars: int) -> list[Chunk]:
    """All chunks of a document, as `iter_chunks` yields them."""
    return list(iter_chunks(parsed, size_chars, overlap_chars))


def iter_chunks(parsed: ParsedDocument, size_chars: int, overlap_chars: int) -> Iterator[Chunk]:
    """Chunks in the order of the text, in time linear in its length.

    No chunk is longer than `size_chars`, except one that is a whole table (up to `TABLE_FACTOR` times that). A chunk repeats the
    last whole sentences of the one before it, as far as `overlap_chars`, and at most half a chunk, allow: never across a heading
    and never from or into a table.
    """
    packer = _Packer(parsed.text, size_chars, min(overlap_chars, size_chars // 2))
    for piece in _pieces(parsed, size_chars):
        yield from packer.add(piece)
    yield from packer.close()


@dataclass(slots=True)
class _Piece:
    """What is never divided further."""

    kind: PieceKind
    start: int
    end: int
    page: int | None
    level: int = 0
    title: str = ""
    header: str = ""
    first: bool = False
    """Of the rows of a table: the one with which it begins."""


@dataclass(slots=True)
class _Open:
    """The chunk that is being filled."""

    start: int
    pieces: list[_Piece]
    path: tuple[str, ...]
    page: int | None
    header: str = ""
    end: int = field(default=0)

    @property
    def only_headings(self) -> bool:
        return self.pieces[-1].kind == "heading"  # a heading is only ever added to headings


class _Packer:
    def __init__(self, text: str, size: int, overlap: int) -> None:
        self._text = text
        self._size = size
        self._overlap = overlap
        self._path: list[tuple[int, str]] = []
        self._open: _Open | None = None
        self._count = 0

    def add(self, piece: _Piece) -> Iterator[Chunk]:
        """Put `piece` into the open chunk, or close that one and begin another."""
        current = self._open
        if current and not self._fits(current, piece):
            yield self._closed(current)
            start = self._overlap_start(current, piece)
            self._open = None
        else:
            start = piece.start
        if piece.kind == "heading":
            while self._path and self._path[-1][0] >= piece.level:
                self._path.pop()
            self._path.append((piece.level, piece.title))
        if self._open is None:
            page = piece.page
            if current and start < piece.start:
                page = next(before.page for before in current.pieces if before.end > start)
            self._open = _Open(start, [], (), page, "" if piece.first else piece.header)
        self._open.pieces.append(piece)
        self._open.end = piece.end
        self._open.path = tuple(title for _, title in self._path)

    def close(self) -> Iterator[Chunk]:
        """The last chunk."""
        if self._open:
            yield self._closed(self._open)
            self._open = None

    def _fits(self, current: _Open, piece: _Piece) -> bool:
        length = piece.end - current.start
        if current.only_headings:
            return length <= self._size * (TABLE_FACTOR if piece.kind == "table" else 1)
        if piece.kind == "heading" or piece.first or (piece.kind == "rows") != (current.pieces[-1].kind == "rows"):
            return False
        return length <= self._size

    def _overlap_start(self, current: _Open, piece: _Piece) -> int:
        """Where the next chunk begins: at a sentence of the closed one that is near enough to its end, else at `piece`."""
        if not self._overlap or piece.kind != "text":
            return piece.start
        least = max(current.end - self._overlap, piece.end - self._size, current.start + 1)
        found = piece.start
        for before in reversed(current.pieces):
            if before.kind != "text" or before.end <= least:
                break
            if before.start >= least:
                found = before.start
                continue
            begin = max(before.start, least - _LOOK_BACK)
            spans = sentences(self._text[begin : before.end])
            return next((begin + start for start, _ in spans if begin + start >= least), found)
        return found

    def _closed(self, current: _Open) -> Chunk:
        ord, self._count = self._count, self._count + 1
        pages = (current.page, current.pieces[-1].page)
        return make_chunk(ord, self._text[current.start : current.end], current.start, pages, current.path, current.header)


def _pieces(parsed: ParsedDocument, size: int) -> Iterator[_Piece]:
    """The document as pieces in order; what no block claims counts as paragraphs."""
    text = parsed.text
    reached = 0
    page: int | None = None
    for block in parsed.blocks:
        yield from _paragraph(text, reached, block.start, page, size)
        page = block.page
        yield from _block(text, block, size)
        reached = block.end
    yield from _paragraph(text, reached, len(text), page, size)


def _block(text: str, block: Block, size: int) -> Iterator[_Piece]:
    if block.kind == "table":
        yield from _table(text, block, size)
    elif block.kind == "code":
        yield from _lines(text, block.start, block.end, block.page, size)
    elif block.kind == "heading" and block.end - block.start <= size:
        title = (block.title or text[block.start : block.end])[:_TITLE_CHARS]
        start, end = _trim(text, block.start, block.end)
        if start < end:
            yield _Piece("heading", start, end, block.page, block.level, " ".join(title.split()))
    else:
        yield from _paragraph(text, block.start, block.end, block.page, size)


def _paragraph(text: str, start: int, end: int, page: int | None, size: int) -> Iterator[_Piece]:
    """One piece where it fits a chunk, else its sentences."""
    start, end = _trim(text, start, end)
    if start < end and end - start <= size:
        yield _Piece("text", start, end, page)
        return
    window = max(_WINDOW, 2 * size)
    while start < end:
        # Sentences are looked for in windows: a text of megabytes without an end of sentence stays linear in time.
        stop = min(end, start + window)
        starts = [start + span[0] for span in sentences(text[start:stop], longest=window)][1:]
        if stop < end and starts:
            stop = starts.pop()
        for left, right in zip([start, *starts], [*starts, stop], strict=True):
            yield from _words(text, left, right, page, size)
        start = stop


def _words(text: str, start: int, end: int, page: int | None, size: int, kind: PieceKind = "text", header: str = "") -> Iterator[_Piece]:
    """One piece where it fits a chunk, else cuts at white space, else anywhere but inside a character with its marks."""
    start, end = _trim(text, start, end)
    while end - start > size:
        space = max(text.rfind(char, start + 1, start + size + 1) for char in _SPACE)
        stop = space if space > start else _hard_cut(text, start, start + size)
        left, right = _trim(text, start, stop)
        if left < right:
            yield _Piece(kind, left, right, page, header=header)
        start, end = _trim(text, stop, end)
    if start < end:
        yield _Piece(kind, start, end, page, header=header)


def _hard_cut(text: str, start: int, stop: int) -> int:
    for cut in range(stop, max(start, stop - 32), -1):
        if not _NOT_A_START.match(text, cut) and text[cut - 1] != "\u200d":
            return cut
    return stop


def _lines(text: str, start: int, end: int, page: int | None, size: int, kind: PieceKind = "text", header: str = "") -> Iterator[_Piece]:
    """One piece where it fits a chunk, else its lines."""
    if end - start <= size:
        yield from _words(text, start, end, page, size, kind, header)
        return
    while start < end:
        newline = text.find("\n", start, end)
        stop = end if newline < 0 else newline + 1
        yield from _words(text, start, stop, page, size, kind, header)
        start = stop


def _table(text: str, block: Block, size: int) -> Iterator[_Piece]:
    start, end = _trim(text, block.start, block.end)
    if end - start <= TABLE_FACTOR * size:
        if start < end:
            yield _Piece("table", start, end, block.page)
        return
    newline = text.find("\n", start, end)
    first = end if newline < 0 else newline
    header = text[start:first] if first - start <= min(_HEADER_CHARS, size) else ""
    for index, piece in enumerate(_lines(text, start, end, block.page, size, "rows", header)):
        piece.first = index == 0
        yield piece


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
