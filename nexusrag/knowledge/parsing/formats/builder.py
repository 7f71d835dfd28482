"""Puts a canonical text together from pieces, for the formats whose source is not text itself."""

from nexusrag.knowledge.parsing.formats.characters import clean, no_text, too_long
from nexusrag.knowledge.parsing.formats.model import Block, BlockKind, MetaValue, ParsedDocument, ParseLimits

CELL = " | "


class Builder:
    """Collects blocks in reading order. Pieces are cleaned and trimmed; empty ones are dropped."""

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0

    @property
    def chars(self) -> int:
        return self._length

    def add(self, kind: BlockKind, text: str, *, level: int = 0, page: int | None = None) -> None:
        """Append one block. Raises ParseError when the document grows too long."""
        text = clean(text).strip()
        if not text:
            return
        previous = self._blocks[-1].kind if self._blocks else kind
        gap = "" if not self._parts else "\n" if kind == previous == "list_item" else "\n\n"
        start = self._length + len(gap)
        self._parts += (gap, text)
        self._length = start + len(text)
        if self._length > self._limits.max_chars:
            raise too_long(self._limits)
        self._blocks.append(Block(kind, start, self._length, level, page))

    def build(self, pages: int | None = None, meta: dict[str, MetaValue] | None = None) -> ParsedDocument:
        """The document. Raises ParseError when nothing was added."""
        if not self._blocks:
            raise no_text()
        return ParsedDocument("".join(self._parts), tuple(self._blocks), pages, meta or {})


def row(cells: list[str]) -> str:
    """One line of a table: cells on one line each, joined by ` | `; empty when every cell is."""
    flat = [" ".join(cell.split()) for cell in cells]
    return CELL.join(flat) if any(flat) else ""
