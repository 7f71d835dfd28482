"""The language of conditions: reads JSON into a tree, and refuses all that is not part of the language with its place and a remedy.

A condition is an object with one operator. Operands are `{"var": "resource.labels.team"}`, scalars, or lists where a list is meant.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, TypeAlias

from nexusrag.access.policies.attributes import PRINCIPAL, REQUEST, Schema
from nexusrag.access.policies.network import Networks, read_networks
from nexusrag.access.policies.patterns import Pattern, PatternError, parse_pattern
from nexusrag.access.policies.values import SCALARS, key, kind, storable
from nexusrag.access.policies.window import Window, read_window

INVALID: Literal["AUTHZ_POLICY_INVALID"] = "AUTHZ_POLICY_INVALID"
TOO_COMPLEX: Literal["AUTHZ_POLICY_TOO_COMPLEX"] = "AUTHZ_POLICY_TOO_COMPLEX"
MAX_PATH = 6
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class PolicyError(ValueError):
    """A policy that is refused. `path` names the place in the condition: `$.all[1].eq[0]`."""

    def __init__(self, code: str, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.code = code
        self.path = path
        self.message = message


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one condition: bytes of compact JSON, operators inside operators, and operators and operands in all."""

    bytes: int = 16_384
    depth: int = 8
    nodes: int = 1_000


@dataclass(frozen=True, slots=True)
class Var:
    """`resource.labels.team` is ("resource", ("labels", "team"))."""

    root: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.root, *self.names))


@dataclass(frozen=True, slots=True, eq=False)
class Const:
    """A scalar, a tuple of scalars, or what an operator made of its second operand. 1 and true are not equal here."""

    value: str | float | bool | tuple[str | float | bool, ...] | Pattern | Window | Networks

    def _key(self) -> object:
        return tuple(map(key, self.value)) if isinstance(self.value, tuple) else key(self.value) or self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


@dataclass(frozen=True, slots=True)
class Logic:
    """True if `all` or `any` of the nodes are. `all` of none is the condition that always holds.

    Nodes are equal wherever they stand.
    """

    op: Literal["all", "any"]
    nodes: tuple["Node", ...]
    path: str = field(default="$", compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    node: "Node"
    path: str = field(default="$", compare=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison. `exists` has one operand, all others have two."""

    op: str
    operands: tuple[Var | Const, ...]
    path: str = field(default="$", compare=False)


@dataclass(frozen=True, slots=True)
class Unknown:
    """What is neither true nor false, whatever the resource."""

    path: str = field(default="$", compare=False)


Node: TypeAlias = Logic | Not | Comparison | Unknown
ALWAYS = Logic("all", ())
UNKNOWN = Unknown()

_ORDERED = frozenset({"number", "string"})
_TEXT = frozenset({"string"})
_LIST = frozenset({"list"})
# What kinds of value each operand may have. A value of another kind makes the comparison unknown; a constant is refused.
KINDS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "eq": (SCALARS, SCALARS),
    "ne": (SCALARS, SCALARS),
    "in": (SCALARS, _LIST),
    "contains": (_LIST | _TEXT, SCALARS),
    "gt": (_ORDERED, _ORDERED),
    "gte": (_ORDERED, _ORDERED),
    "lt": (_ORDERED, _ORDERED),
    "lte": (_ORDERED, _ORDERED),
    "starts_with": (_TEXT, _TEXT),
}
_OTHERS = ("all", "any", "not", "exists", "matches", "time_between", "ip_in")


def parse(condition: Any, schema: Schema, limits: Limits) -> Node:
    """The tree of a condition, parsed JSON; `None` and `{}` always hold. Raises PolicyError."""
    if condition is None or condition == {}:
        return ALWAYS
    _check_size(condition, limits)
    return _Reader(schema, limits).node(condition, "$", 1)


def check_target(
    resource_type: str, action: str, resource_types: frozenset[str], actions: frozenset[str], *, allow_wildcards: bool
) -> None:
    """Whether a policy may be about this type and action, `*` being all. Raises PolicyError."""
    for path, given, known in (("resource_type", resource_type, resource_types), ("action", action, actions)):
        if given != "*" and given not in known:
            raise PolicyError(INVALID, path, f"Give one of {', '.join(sorted(known))}, or *.")
    if resource_type == action == "*" and not allow_wildcards:
        message = "A policy on every type and every action needs AUTHZ_ALLOW_WILDCARDS=true; name the type or the action."
        raise PolicyError(INVALID, "resource_type", message)


def _check_size(condition: Any, limits: Limits) -> None:
    try:
        size = len(json.dumps(condition, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
    except RecursionError as error:
        raise PolicyError(TOO_COMPLEX, "$", f"Operators stand at most {limits.depth} deep inside each other.") from error
    if size > limits.bytes:
        raise PolicyError(TOO_COMPLEX, "$", f"The condition has {size} bytes; at most {limits.bytes} are allowed. Split the policy.")


class _Reader:
    def __init__(self, schema: Schema, limits: Limits) -> None:
        self._schema = schema
        self._limits = limits
        self._nodes = 0

    def node(self, given: Any, path: str, depth: int) -> Node:
        self._count(path)
        if depth > self._limits.depth:
            message = f"Operators stand at most {self._limits.depth} deep inside each other. Split the policy."
            raise PolicyError(TOO_COMPLEX, path, message)
        if not isinstance(given, dict) or len(given) != 1:
            _refuse(path, 'Give an object with exactly one operator, such as {"eq": [{"var": "principal.role"}, "editor"]}.')
        ((op, argument),) = given.items()
        below = f"{path}.{op}"
        if op in ("all", "any"):
            if not isinstance(argument, list) or not argument:
                _refuse(below, "Give a list of at least one condition.")
            nodes = tuple(self.node(item, f"{below}[{place}]", depth + 1) for place, item in enumerate(argument))
            return Logic(op, nodes, below)
        if op == "not":
            place, inside = self._single(argument, below)
            return Not(self.node(inside, place, depth + 1), below)
        if op == "exists":
            place, inside = self._single(argument, below)
            return Comparison(op, (self._var(inside, place),), below)
        if op not in KINDS and op not in _OTHERS:
            _refuse(path, f"Unknown operator. Use one of {', '.join((*_OTHERS, *KINDS))}.")
        if not isinstance(argument, list) or len(argument) != 2:
            _refuse(below, "Give a list of two operands.")
        return Comparison(op, self._operands(op, argument, below), below)

    def _operands(self, op: str, given: list[Any], path: str) -> tuple[Var | Const, ...]:
        first, second = f"{path}[0]", f"{path}[1]"
        special = _SPECIAL.get(op)
        if special is None:
            left, right = KINDS[op]
            return self._operand(given[0], first, left), self._operand(given[1], second, right)
        only, read = special
        if only is not None and given[0] != {"var": only}:
            _refuse(first, f'This operator is about {only} alone: give {{"var": "{only}"}}.')
        subject = self._operand(given[0], first, _TEXT)
        self._count(second)
        try:
            return subject, Const(read(given[1]))
        except ValueError as error:
            raise PolicyError(INVALID, second, str(error)) from error

    def _operand(self, given: Any, path: str, kinds: frozenset[str]) -> Var | Const:
        if isinstance(given, dict):
            return self._var(given, path)
        self._count(path)
        sort = kind(given)
        if given is None:
            _refuse(path, "null is no value: every comparison with it is unknown. Ask with exists whether there is a value.")
        if sort not in kinds:
            _refuse(path, f'Give {{"var": …}} or a constant that is a {" or a ".join(sorted(kinds))}.')
        if sort != "list":
            return Const(_scalar(given, path))
        if not given:
            _refuse(path, "The list is empty; no value would ever be in it.")
        return Const(tuple(_scalar(item, f"{path}[{place}]") for place, item in enumerate(given)))

    def _var(self, given: Any, path: str) -> Var:
        self._count(path)
        if not isinstance(given, dict) or set(given) != {"var"} or not isinstance(given["var"], str):
            _refuse(path, 'Give {"var": "principal.…"}, {"var": "resource.…"} or {"var": "request.…"}, and nothing beside it.')
        root, *names = given["var"].split(".")
        below = f"{path}.var"
        if root in ("principal", "request"):
            known = PRINCIPAL if root == "principal" else REQUEST
            if len(names) != 1 or names[0] not in known:
                _refuse(below, f"{root} has {', '.join(sorted(known))}, each without anything below it.")
        elif root == "resource":
            self._check_resource(names, below)
        else:
            _refuse(below, "A name begins with principal, resource or request.")
        return Var(root, tuple(names))

    def _check_resource(self, names: list[str], path: str) -> None:
        first = names[0] if names else ""
        if first in self._schema.plain:
            if len(names) > 1:
                _refuse(path, f"resource.{first} has nothing below it.")
        elif first not in self._schema.open:
            every = [*sorted(self._schema.plain), *(f"{name}.…" for name in sorted(self._schema.open))]
            _refuse(path, f"A resource of this type has {', '.join(every)}.")
        elif not 2 <= len(names) <= MAX_PATH or not all(_NAME.fullmatch(name) for name in names):
            message = "letters, digits, _ and -, beginning with a letter"
            _refuse(path, f"Below resource.{first} stand one to {MAX_PATH - 1} names of at most 64 {message}, divided by dots.")

    def _single(self, argument: Any, path: str) -> tuple[str, Any]:
        """The one operand, which may stand in a list."""
        if not isinstance(argument, list):
            return path, argument
        if len(argument) != 1:
            _refuse(path, "Give exactly one operand.")
        return f"{path}[0]", argument[0]

    def _count(self, path: str) -> None:
        self._nodes += 1
        if self._nodes > self._limits.nodes:
            message = f"The condition has more than {self._limits.nodes} operators and operands. Split the policy."
            raise PolicyError(TOO_COMPLEX, path, message)


def _scalar(given: Any, path: str) -> str | float | bool:
    if kind(given) not in SCALARS:
        _refuse(path, "Give a string, a number or a boolean.")
    if isinstance(given, str) and not storable(given):
        _refuse(path, "The text holds a NUL character or half of a surrogate pair, which no stored value does.")
    scalar: str | float | bool = given
    return scalar


def _pattern(given: Any) -> Pattern:
    if not isinstance(given, str):
        raise PatternError("Give a pattern as a string.")
    if not storable(given):
        raise PatternError("The pattern holds a NUL character or half of a surrogate pair, which no stored value does.")
    return parse_pattern(given)


# The variable that an operator is about, or None where any will do, and what reads its second operand.
_SPECIAL: Mapping[str, tuple[str | None, Callable[[Any], Pattern | Window | Networks]]] = {
    "matches": (None, _pattern),
    "time_between": ("request.time", read_window),
    "ip_in": ("request.ip", read_networks),
}


def _refuse(path: str, message: str) -> NoReturn:
    raise PolicyError(INVALID, path, message)
