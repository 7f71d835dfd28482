"""JSON uploads: an object whose member `text` is the document. Other members are ignored."""

from typing import BinaryIO

import orjson

from nexusrag.knowledge.parsing.formats.characters import decode, read_bytes
from nexusrag.knowledge.parsing.formats.model import PageProgress, ParsedDocument, ParseError, ParseLimits
from nexusrag.knowledge.parsing.formats.text import of_text


def parse(source: BinaryIO, limits: ParseLimits, progress: PageProgress) -> ParsedDocument:
    """The text inside the object, as plain text."""
    try:
        value = orjson.loads(decode(read_bytes(source, limits)))
    except orjson.JSONDecodeError as error:
        raise ParseError(f"The file is not valid JSON (line {error.lineno}, column {error.colno}).") from error
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise ParseError('A JSON upload must be an object with a member "text" that holds a string.')
    return of_text(text, limits)
