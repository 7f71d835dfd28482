"""Markdown (CommonMark and tables): the text stays as written, so that offsets point into the file; blocks come from its structure."""

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import BinaryIO

from markdown_it import MarkdownIt
from markdown_it.token import Token

from nexusrag.knowledge.parsing.formats.characters import clean, decode, no_text, read_bytes, too_long
from nexusrag.knowledge.parsing.formats.model import Block, BlockKind, PageProgress, ParsedDocument, ParseLimits

# Inline rules are off: they cost more than everything else, and only the words of headings are needed from them.
_BLOCKS = MarkdownIt("commonmark").enable("table").disable("inline")
_INLINE = MarkdownIt("commonmark")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?:.*\n){0,200}?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_KINDS: dict[str, BlockKind] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
    "html_block": "paragraph",
}
_TITLE_CHARS = 400


def parse(source: BinaryIO, limits: ParseLimits, progress: PageProgress) -> ParsedDocument:
    """The file's own characters, cleaned, with headings, lists, tables and code marked."""
    text = clean(decode(read_bytes(source, limits)))
    if not text.strip():
        raise no_text()
    if len(text) > limits.max_chars:
        raise too_long(limits)
    return ParsedDocument(text, tuple(_blocks(text)))


def _blocks(text: str) -> Iterator[Block]:
    lines = [0, *accumulate(len(line) for line in text.splitlines(keepends=True))]
    body = text
    reached = 0
    if front := _FRONT_MATTER.match(text):
        # Blanked, not cut: its last line would otherwise turn what stands above into a heading.
        body = "\n" * text.count("\n", 0, front.end()) + text[front.end() :]
        reached = front.end()
        yield Block("code", 0, len(front[0].rstrip()))
    tokens = _BLOCKS.parse(body)
    depth = 0
    for index, token in enumerate(tokens):
        if token.type in ("bullet_list_open", "ordered_list_open"):
            depth += 1
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            depth -= 1
        kind = _KINDS.get(token.type)
        if kind is None or token.map is None:
            continue
        start, end = _trimmed(text, max(reached, _offset(lines, token.map[0])), _offset(lines, token.map[1]))
        if start >= end:
            continue
        reached = end
        if kind == "heading":
            yield Block("heading", start, end, int(token.tag[1:]), title=_words(tokens[index + 1]))
        elif kind == "paragraph" and depth:
            yield Block("list_item", start, end, depth)
        else:
            yield Block(kind, start, end)


def _offset(lines: list[int], line: int) -> int:
    return lines[min(line, len(lines) - 1)]


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _words(heading: Token) -> str:
    """The plain words of a heading: no emphasis, no link targets."""
    children = _INLINE.parseInline(heading.content[:_TITLE_CHARS])[0].children or []
    return " ".join("".join(child.content or " " for child in children if child.type != "html_inline").split())
