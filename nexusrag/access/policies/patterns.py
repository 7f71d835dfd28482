"""Patterns of `matches`: the part of regular expressions that RE2 and PostgreSQL understand alike, and neither finds expensive.

A pattern is read here and written anew for each engine, with every character but ASCII letters and digits as a code point, so
that nothing of either's own syntax is left to chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import re2

MAX_LENGTH = 256
# Characters after repetitions were written out. Both engines compile that in milliseconds and run in time linear to the text.
MAX_EXPANDED = 250
# What an optional part counts for besides: each can be followed by all after it, for which PostgreSQL draws an arc.
_OPTIONAL = 6
_MAX_NESTING = 20
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_QUANTIFIERS = frozenset("?*+{")


class PatternError(ValueError):
    """Not a pattern; the message says what is wrong, and where."""


@dataclass(frozen=True)
class Pattern:
    """`source` as it was given; what each engine is asked for."""

    source: str
    google: str
    postgres: str

    def search(self, text: str) -> bool:
        try:
            return self._compiled.search(text.encode()) is not None
        except UnicodeEncodeError:  # half of a surrogate pair, which no stored text holds
            return False

    @cached_property
    def _compiled(self) -> Any:
        options = re2.Options()
        options.max_mem = 1 << 20  # what states are kept in; beyond it the search is slower, not wrong
        options.never_capture = True
        options.log_errors = False
        return re2.compile(self.google.encode(), options)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a pattern for both engines. `size` in characters when written out; `empty`: it matches the empty text."""

    google: str
    postgres: str
    size: int = 1
    empty: bool = False
    anchored: bool = False


_START = _Piece(r"\A", r"\A", empty=True, anchored=True)
_END = _Piece(r"\z", r"\Z", empty=True, anchored=True)
_ANY = _Piece(r"[^\n]", r"[^\n]")


def parse_pattern(source: str) -> Pattern:
    """Raises PatternError."""
    if len(source) > MAX_LENGTH:
        raise PatternError(f"A pattern has at most {MAX_LENGTH} characters.")
    reader = _Reader(source)
    piece = reader.alternatives(0)
    if reader.peek():  # only a bracket can stop the reader before the end
        reader.refuse("nothing was opened that this bracket closes; write \\) for the character")
    return Pattern(source, piece.google, piece.postgres)


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0

    def peek(self) -> str:
        """The next character, or nothing at the end."""
        return self._source[self._at : self._at + 1]

    def _take(self) -> str:
        char = self.peek()
        self._at += 1
        return char

    def refuse(self, why: str) -> NoReturn:
        raise PatternError(f"At character {min(self._at, len(self._source)) + 1}: {why}.")

    def alternatives(self, depth: int) -> _Piece:
        if depth > _MAX_NESTING:
            self.refuse(f"groups are nested at most {_MAX_NESTING} deep")
        branches = [self._branch(depth)]
        while self.peek() == "|":
            self._take()
            branches.append(self._branch(depth))
        if len(branches) == 1:
            return branches[0]
        return _Piece(
            "|".join(branch.google for branch in branches),
            "|".join(branch.postgres for branch in branches),
            self._affordable(sum(branch.size for branch in branches)),
            any(branch.empty for branch in branches),
            any(branch.anchored for branch in branches),
        )

    def _branch(self, depth: int) -> _Piece:
        pieces: list[_Piece] = []
        while self.peek() not in ("", "|", ")"):
            pieces.append(self._quantified(self._atom(depth)))
        if not pieces:
            self.refuse("something to match is missing here")
        return _Piece(
            "".join(piece.google for piece in pieces),
            "".join(piece.postgres for piece in pieces),
            self._affordable(sum(piece.size for piece in pieces)),
            all(piece.empty for piece in pieces),
            any(piece.anchored for piece in pieces),
        )

    def _affordable(self, size: int) -> int:
        if size > MAX_EXPANDED:
            self.refuse(f"the pattern stands for more than {MAX_EXPANDED} characters; repeat less")
        return size

    def _atom(self, depth: int) -> _Piece:
        char = self._take()
        match char:
            case ".":
                return _ANY
            case "^":
                return _START
            case "$":
                return _END
            case "(":
                return self._group(depth)
            case "[":
                return self._class()
            case "\\":
                return _literal(self._escaped())
            case "?" | "*" | "+" | "{":
                self._at -= 1
                self.refuse(f"nothing is here that {char} could repeat; write \\{char} for the character")
            case "]" | "}":
                self._at -= 1
                self.refuse(f"write \\{char} for the character")
        return _literal(char)

    def _escaped(self) -> str:
        char = self._take()
        if char not in _PUNCTUATION:
            self._at -= 1
            self.refuse("a backslash stands before punctuation only; write classes such as [0-9] out")
        return char

    def _group(self, depth: int) -> _Piece:
        if self.peek() == "?":
            self.refuse("a group has no options; write ( and ) alone")
        inside = self.alternatives(depth + 1)
        if self.peek() != ")":
            self.refuse("the group is not closed")
        self._take()
        return _Piece(f"(?:{inside.google})", f"(?:{inside.postgres})", inside.size, inside.empty, inside.anchored)

    def _quantified(self, atom: _Piece) -> _Piece:
        if self.peek() not in _QUANTIFIERS:
            return atom
        if atom.empty or atom.anchored:
            self.refuse("what is repeated must match something, and holds no ^ or $")
        sign = self._take()
        least, copies = (1, 1) if sign == "+" else (0, 1)
        if sign == "{":
            sign, least, copies = self._bounds()
        if self.peek() in _QUANTIFIERS:
            self.refuse("one repetition cannot follow another")
        size = atom.size * copies + (_OPTIONAL if least == 0 else 0)
        return _Piece(atom.google + sign, atom.postgres + sign, self._affordable(size), least == 0)

    def _bounds(self) -> tuple[str, int, int]:
        """`{m}`, `{m,}` or `{m,n}` behind the opening brace: the text, m, and how many copies it takes."""
        end = self._source.find("}", self._at)
        inside = self._source[self._at : end] if end >= 0 else ""
        least, comma, most = inside.partition(",")
        if not _is_count(least) or (most and not _is_count(most)):
            self.refuse("a repetition is {m}, {m,} or {m,n}; write \\{ for the character")
        low, high = int(least), int(most) if most else int(least)
        if high < low or (high == 0 and (most or not comma)):
            self.refuse("a repetition {m,n} goes from m to n, and n is at least 1")
        self._at = end + 1
        if comma and not most:
            return f"{{{low},}}", low, low + 1
        return f"{{{low},{high}}}", low, high

    def _class(self) -> _Piece:
        negated = self.peek() == "^"
        if negated:
            self._take()
        members: set[int] = set()
        while (char := self.peek()) != "]":
            if not char:
                self.refuse("the class is not closed")
            low = self._member(first=not members)
            high = low
            if self.peek() == "-" and self._source[self._at + 1 : self._at + 2] not in ("]", ""):
                self._take()
                high = self._member(first=False)
                if high < low:
                    self.refuse("the range ends before it begins")
            members.update(range(low, high + 1))
        if not members:
            self.refuse("the class is empty; write \\] for the character")
        self._take()
        return _class_of(members, negated)

    def _member(self, first: bool) -> int:
        """The code point of one character of a class."""
        char = self._take()
        if char == "\\":
            return ord(self._escaped())
        if char in ("[", "^") or (char == "-" and not first and self.peek() != "]"):
            self._at -= 1
            self.refuse(f"write \\{char} for the character")
        if not char or not "\0" < char < "\x7f":
            self._at -= 1
            self.refuse("a class holds ASCII characters only")
        return ord(char)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 3


def _literal(char: str) -> _Piece:
    if char.isascii() and char.isalnum():
        return _Piece(char, char)
    return _Piece(*_code(ord(char)))


def _code(point: int) -> tuple[str, str]:
    return f"\\x{{{point:x}}}", f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _class_of(members: set[int], negated: bool) -> _Piece:
    google, postgres = [], []
    for low, high in _ranges(sorted(members)):
        (first, first_), (last, last_) = _code(low), _code(high)
        google.append(first if low == high else f"{first}-{last}")
        postgres.append(first_ if low == high else f"{first_}-{last_}")
    sign = "^" if negated else ""
    return _Piece(f"[{sign}{''.join(google)}]", f"[{sign}{''.join(postgres)}]")


def _ranges(points: list[int]) -> Iterator[tuple[int, int]]:
    low = high = points[0]
    for point in points[1:]:
        if point != high + 1:
            yield low, high
            low = point
        high = point
    yield low, high
