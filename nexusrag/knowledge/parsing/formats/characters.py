"""From bytes to characters: encodings by byte order mark, and which characters the canonical text never holds.

Invalid UTF-8 is refused, not replaced: citations quote the text word for word, and a replaced letter would be a silent change.
"""

import re
import unicodedata
from typing import BinaryIO

from nexusrag.knowledge.parsing.formats.model import ParseError, ParseLimits

_UTF8_BOM = b"\xef\xbb\xbf"
_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_UNWANTED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # control characters
    "\u00ad\u200b\u2060-\u2064\ufeff"  # invisible: soft hyphen, zero width space, joiners without meaning, stray byte order marks
    "\u202a-\u202e\u2066-\u2069"  # direction overrides, which show other words than they hold
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f]+"  # annotations, non-characters, tag characters
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_MARK_RUN = re.compile(
    "([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{30})[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)


def clean(text: str) -> str:
    """`text` as it is stored: line breaks are \\n, unwanted characters are gone, NFC.

    Runs of combining marks end after 30 (as in Unicode's stream-safe text format): longer ones make normalising quadratic.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _UNWANTED.sub("", _BREAKS.sub("\n", text))
    if text.isascii():
        return text
    text = _MARK_RUN.sub(r"\1", _SURROGATES.sub("\ufffd", text))
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def decode(data: bytes) -> str:
    """Characters of a text file: UTF-8 with or without a byte order mark, or UTF-16 with one. Not cleaned yet.

    Raises ParseError for anything else.
    """
    if data.startswith(_UTF8_BOM):
        data = data[len(_UTF8_BOM) :]
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise ParseError("The file is damaged UTF-16 text; save it as UTF-8 and upload it again.") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"The file is not valid UTF-8 text (byte {error.start + 1}); save it as UTF-8 and upload it again.") from error
    if text.count("\x00") * 10 > len(text):
        raise ParseError("The file looks like UTF-16 without a byte order mark; save it as UTF-8 and upload it again.")
    return text


def read_bytes(source: BinaryIO, limits: ParseLimits) -> bytes:
    """All of `source`. Raises ParseError when it cannot stay under `limits.max_chars`, or is empty."""
    data = source.read(4 * limits.max_chars + 4)
    if not data:
        raise ParseError("The file is empty.")
    if len(data) > 4 * limits.max_chars:
        raise too_long(limits)
    return data


def too_long(limits: ParseLimits) -> ParseError:
    """The refusal of a document with more text than allowed."""
    return ParseError(f"The document holds more than {limits.max_chars:,} characters; split it and upload the parts.")


def no_text() -> ParseError:
    """The refusal of a document without any text."""
    return ParseError("The document holds no text.")
