"""Which of many conditions can apply at all: found by the comparisons that each demands, without looking at the others."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.evaluate import Read, reader
from nexusrag.access.policies.language import Comparison, Const, Logic, Node, Var
from nexusrag.access.policies.values import SCALARS, Key, key, kind

How: TypeAlias = Literal["is", "holds", "starts"]


@dataclass(frozen=True, slots=True)
class _Demand:
    """False unless the variable is one of the values, is a list that holds one, or is a text that starts with one."""

    var: Var
    how: How
    keys: tuple[Key, ...]
    op: str


@dataclass(slots=True)
class _Lookup:
    """Places of the conditions with demands on one variable."""

    read: Read
    how: How
    every: list[int] = field(default_factory=list)
    by_key: dict[Key, list[int]] = field(default_factory=dict)
    # `eq` is unknown, and not false, where the types differ; `contains` demands nothing of a list where the value is a text.
    by_kind: dict[str, list[int]] = field(default_factory=dict)
    contains: list[int] = field(default_factory=list)
    lengths: set[int] = field(default_factory=set)

    def add(self, place: int, demand: _Demand) -> None:
        self.every.append(place)
        for one in demand.keys:
            self.by_key.setdefault(one, []).append(place)
        if demand.op == "eq":
            self.by_kind.setdefault(_kind_of(demand.keys[0]), []).append(place)
        elif demand.op == "contains":
            self.contains.append(place)
        elif demand.op == "starts_with":
            self.lengths.add(len(demand.keys[0]))

    def hits(self, attributes: Attributes, unknown_counts: bool) -> Iterator[list[int]]:
        value = self.read(attributes)
        sort = kind(value)
        if sort not in _FITTING[self.how]:
            if unknown_counts:
                yield self.every
            elif sort == "string":
                yield self.contains
            return
        for one in self._keys(value):
            if one is not None and (found := self.by_key.get(one)):
                yield found
        if unknown_counts:
            yield from (places for other, places in self.by_kind.items() if other != sort)

    def _keys(self, value: Any) -> Iterator[Key | None]:
        if self.how == "starts":
            return (value[:length] for length in self.lengths)
        return map(key, value if self.how == "holds" else (value,))


_FITTING: dict[How, frozenset[str]] = {"is": SCALARS, "holds": frozenset({"list"}), "starts": frozenset({"string"})}


class Index:
    """`unknown_counts`: also those are wanted whose outcome is unknown."""

    def __init__(self, conditions: Sequence[Node], *, unknown_counts: bool) -> None:
        self._unknown_counts = unknown_counts
        self._others: list[int] = []
        self._lookups: dict[tuple[Var, How], _Lookup] = {}
        seen = Counter(each for condition in conditions for demand in _every(condition) for each in _parts(demand))
        for place, condition in enumerate(conditions):
            wanted = _wanted(condition, seen)
            if wanted is None:
                self._others.append(place)
                continue
            for demand in wanted:
                self._lookups.setdefault((demand.var, demand.how), _Lookup(reader(demand.var), demand.how)).add(place, demand)

    def candidates(self, attributes: Attributes, known: Collection[str] | None = None) -> list[int]:
        """Places, in order, of all conditions that may apply, and some that do not. `known`: the roots whose values are there."""
        found: list[list[int]] = []
        for (var, _), lookup in self._lookups.items():
            if known is not None and var.root not in known:
                found.append(lookup.every)
            else:
                found.extend(lookup.hits(attributes, self._unknown_counts))
        return sorted(set(self._others).union(*found)) if found else self._others


def _wanted(node: Node, seen: Counter[Any]) -> tuple[_Demand, ...] | None:
    """Demands of which one at least must be met, if there are such."""
    if isinstance(node, Comparison):
        demand = _demand(node)
        return None if demand is None else (demand,)
    if not isinstance(node, Logic):
        return None
    of_each = [_wanted(below, seen) for below in node.nodes]
    if node.op == "any":
        return None if None in of_each else tuple(demand for each in of_each if each for demand in each)
    # Every one of these must be met; the rarest leave the fewest conditions to look at.
    return min((each for each in of_each if each is not None), key=lambda each: _frequency(each, seen), default=None)


def _frequency(demands: tuple[_Demand, ...], seen: Counter[Any]) -> int:
    return sum(seen[each] for demand in demands for each in _parts(demand))


def _parts(demand: _Demand) -> Iterator[tuple[Var, How, Key]]:
    return ((demand.var, demand.how, one) for one in demand.keys)


def _every(node: Node) -> Iterator[_Demand]:
    if isinstance(node, Logic):
        for below in node.nodes:
            yield from _every(below)
    elif isinstance(node, Comparison) and (demand := _demand(node)) is not None:
        yield demand


def _demand(node: Comparison) -> _Demand | None:
    if node.op not in ("eq", "in", "contains", "starts_with"):
        return None
    left, right = node.operands
    if node.op == "eq" and isinstance(left, Const):
        left, right = right, left
    if isinstance(left, Var) and isinstance(right, Const):
        how: How = "holds" if node.op == "contains" else "starts" if node.op == "starts_with" else "is"
        return _Demand(left, how, _keys(right.value), node.op)
    if node.op == "in" and isinstance(left, Const) and isinstance(right, Var):
        return _Demand(right, "holds", _keys(left.value), node.op)
    return None


def _keys(value: Any) -> tuple[Key, ...]:
    items = value if isinstance(value, tuple) else (value,)
    return tuple(dict.fromkeys(one for one in map(key, items) if one is not None))


def _kind_of(one: Key) -> str:
    return "string" if isinstance(one, str) else one[0]
