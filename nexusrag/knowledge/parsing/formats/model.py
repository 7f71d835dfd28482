"""What a parser returns: one canonical text and blocks that point into it by character offset.

Light on purpose (no pydantic): every sandbox process imports it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, Protocol

BlockKind = Literal["heading", "paragraph", "list_item", "table", "code"]
MetaValue = str | int


class ParseError(Exception):
    """The document cannot be read. `reason` is shown to the person who uploaded it and says what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of structure: `text[start:end]` of its document, in order, never overlapping.

    `level` is 1 to 6 for headings and the depth, from 1, for list items; else 0. `page` counts from 1 where the format has
    pages. `title` is a heading's plain words, where the text itself carries markup.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    page: int | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The canonical text of a source. Offsets of blocks, chunks and citations count characters of `text`."""

    text: str
    blocks: tuple[Block, ...]
    pages: int | None = None
    meta: Mapping[str, MetaValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """What one document may be: pages, characters of extracted text, seconds for optional work such as tables."""

    max_pages: int = 5000
    max_chars: int = 20_000_000
    table_seconds: float = 20.0


PageProgress = Callable[[int, int], None]
"""Called with (pages done, pages in all) where the format has pages."""


class Parser(Protocol):
    """A format. Each module in `registry.FORMATS` has a function `parse` of this shape."""

    def __call__(self, source: BinaryIO, limits: ParseLimits, progress: PageProgress) -> ParsedDocument:
        """Read `source` (seekable, at its start). Raises ParseError."""
        ...


def no_progress(done: int, total: int) -> None:
    """The progress callback of callers that do not watch."""
