"""The filter language of RFC 7644, section 3.4.2.2: from text to a tree, within limits. What names mean is decided where a tree is used."""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, cast

from nexusrag.identity.scim.answers import invalid
from nexusrag.kernel.errors import ApiError

MAX_LENGTH = 8192  # characters
MAX_DEPTH = 32
MAX_TERMS = 200
Operator = Literal["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"]
Value = str | bool | int | float | None
_OPERATORS = frozenset({"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"})
_TOKEN = re.compile(r'\s*(?:([()\[\]])|("(?:[^"\\]|\\.)*")|([^\s()\[\]"]+))', re.DOTALL)
_NAME = re.compile(r"(?:urn:[A-Za-z0-9:._-]+|[A-Za-z$][A-Za-z0-9_$-]*(?:\.[A-Za-z$][A-Za-z0-9_$-]*)?)", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS: dict[str, Value] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Comparison:
    name: str
    op: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class Present:
    name: str


@dataclass(frozen=True, slots=True)
class Not:
    node: "Node"


@dataclass(frozen=True, slots=True)
class Logic:
    op: Literal["and", "or"]
    nodes: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """`emails[…]`: one value of the list is as the condition says."""

    name: str
    node: "Node"


Node = Comparison | Present | Not | Logic | Selection


@dataclass(frozen=True, slots=True)
class PatchPath:
    """`name`, `name[filter]` or `name[filter].sub`, as PATCH names what it changes."""

    name: str
    node: Node | None = None
    sub: str | None = None


def parse_filter(text: str) -> Node:
    """Raises SCIM_PAYLOAD_INVALID with invalidFilter."""
    try:
        return _Parser(text).whole()
    except _Fault as fault:
        raise invalid("invalidFilter", f"The filter cannot be read: {fault}.") from fault


def parse_path(text: str) -> PatchPath:
    """Raises SCIM_PAYLOAD_INVALID with invalidPath, or invalidFilter for what stands in its brackets."""
    bracket = text.find("[")
    try:
        if bracket < 0:
            return PatchPath(_name_in(text.strip()))
        name, parser = _name_in(text[:bracket].strip()), _Parser(text[bracket:])
    except _Fault as fault:
        raise invalid("invalidPath", f"The path cannot be read: {fault}.") from fault
    try:
        node = parser.bracketed()
    except _Fault as fault:
        raise invalid("invalidFilter", f"The filter in the path cannot be read: {fault}.") from fault
    rest = parser.rest()
    if rest and not (rest.startswith(".") and _NAME.fullmatch(rest[1:]) and "." not in rest[1:]):
        raise invalid("invalidPath", "The path cannot be read: after ] comes the name of one sub-attribute, or nothing.")
    return PatchPath(name, node, rest[1:] or None)


def fold(text: str) -> str:
    """How texts whose case does not matter are kept and asked for: composed, so that one character has one form."""
    return unicodedata.normalize("NFC", text)


class _Fault(ValueError):
    """What is wrong with the text."""


def _name_in(word: str) -> str:
    if _NAME.fullmatch(word) is None:
        raise _Fault("there is no attribute name where one is needed" if not word else f"{word[:60]!r} is no attribute name")
    return word


def _tokens(text: str) -> list[str]:
    if len(text) > MAX_LENGTH:
        raise _Fault(f"it is longer than {MAX_LENGTH} characters")
    tokens, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at, end)
        if match is None:
            raise _Fault("a quotation mark is not closed")
        tokens.append(match[match.lastindex or 0])
        at = match.end()
    return tokens


class _Parser:
    """Recursive descent: `not` binds closest, then `and`, then `or`."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0
        self._terms = 0

    def whole(self) -> Node:
        node = self._or(inside=False)
        if self._at < len(self._tokens):
            raise _Fault(f"{self._peek()[:60]!r} is one too many")
        return node

    def bracketed(self) -> Node:
        """`[…]` at the beginning."""
        self._demand("[")
        return self._selected()

    def rest(self) -> str:
        return "".join(self._tokens[self._at :])

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise _Fault("it ends too early")
        self._at += 1
        return token

    def _demand(self, token: str) -> None:
        if self._next() != token:
            raise _Fault(f"{token!r} is missing")

    def _word(self, word: str) -> bool:
        if self._peek().lower() != word:
            return False
        self._at += 1
        return True

    def _or(self, *, inside: bool) -> Node:
        nodes = [self._and(inside=inside)]
        while self._word("or"):
            nodes.append(self._and(inside=inside))
        return nodes[0] if len(nodes) == 1 else Logic("or", tuple(nodes))

    def _and(self, *, inside: bool) -> Node:
        nodes = [self._factor(inside=inside)]
        while self._word("and"):
            nodes.append(self._factor(inside=inside))
        return nodes[0] if len(nodes) == 1 else Logic("and", tuple(nodes))

    def _factor(self, *, inside: bool) -> Node:
        negated = self._peek().lower() == "not" and self._tokens[self._at + 1 : self._at + 2] == ["("]
        if negated:
            self._at += 1
        if self._peek() != "(":
            return self._term(inside=inside)
        self._at += 1
        self._deeper()
        node = self._or(inside=inside)
        self._demand(")")
        self._depth -= 1
        return Not(node) if negated else node

    def _term(self, *, inside: bool) -> Node:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise _Fault(f"it has more than {MAX_TERMS} comparisons")
        name = _name_in(self._next())
        if self._peek() != "[":
            return self._compared(name)
        if inside:
            raise _Fault("brackets stand inside brackets")
        self._at += 1
        node = self._selected()
        if not self._peek().startswith("."):
            return Selection(name, node)
        # Not in the RFC, but sent: emails[type eq "work"].value eq "x"
        sub = _name_in(self._next()[1:])
        return Selection(name, Logic("and", (node, self._compared(sub))))

    def _selected(self) -> Node:
        self._deeper()
        node = self._or(inside=True)
        self._demand("]")
        self._depth -= 1
        return node

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Fault(f"it is nested deeper than {MAX_DEPTH} levels")

    def _compared(self, name: str) -> Node:
        word = self._next().lower()
        if word == "pr":
            return Present(name)
        if word not in _OPERATORS:
            raise _Fault(f"{word[:60]!r} is no operator")
        return Comparison(name, cast(Operator, word), _value_of(self._next()))


def _value_of(token: str) -> Value:
    if token.startswith('"'):
        return _text_of(token)
    if token.lower() in _WORDS:
        return _WORDS[token.lower()]
    if _NUMBER.fullmatch(token) and len(token) <= 32:
        number: int | float = json.loads(token)
        return number
    raise _Fault(f"{token[:60]!r} is no value: texts stand in quotation marks")


def _text_of(token: str) -> str:
    try:
        text = str(json.loads(token))
        text.encode()
    except ValueError as error:
        raise _Fault("a text in it is no JSON string") from error
    if "\x00" in text:
        raise _Fault("a text in it holds a NUL character")
    return text


def unusable(name: str) -> ApiError:
    """A name that stands for nothing which can be asked for."""
    return invalid("invalidFilter", f"There is no attribute {name[:100]!r} to filter by.")
