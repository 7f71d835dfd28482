"""Plain text: paragraphs are separated by empty lines."""

import re
from typing import BinaryIO

from nexusrag.knowledge.parsing.formats.characters import clean, decode, no_text, read_bytes, too_long
from nexusrag.knowledge.parsing.formats.model import Block, PageProgress, ParsedDocument, ParseLimits

_EMPTY_LINES = re.compile(r"\n[^\S\n]*\n\s*")


def parse(source: BinaryIO, limits: ParseLimits, progress: PageProgress) -> ParsedDocument:
    """The file's own characters, cleaned."""
    return of_text(decode(read_bytes(source, limits)), limits)


def of_text(text: str, limits: ParseLimits) -> ParsedDocument:
    """`text`, cleaned, with its paragraphs as blocks."""
    text = clean(text).strip()
    if not text:
        raise no_text()
    if len(text) > limits.max_chars:
        raise too_long(limits)
    blocks = []
    start = 0
    for gap in _EMPTY_LINES.finditer(text):
        blocks.append(Block("paragraph", start, gap.start()))
        start = gap.end()
    blocks.append(Block("paragraph", start, len(text)))
    return ParsedDocument(text, tuple(blocks))
