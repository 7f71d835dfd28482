"""A filter as one SQL condition, and what to sort by. Texts of the client are parameters, and none is a pattern."""

from collections.abc import Iterator
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Label, Text, and_, false, func, literal, not_, or_, true, type_coerce

from nexusrag.identity.scim.answers import invalid
from nexusrag.identity.scim.columns import Expression, Rows, Values
from nexusrag.identity.scim.comparing import Test, demand_list, test_of
from nexusrag.identity.scim.filters import Comparison, Logic, Node, Not, Present, Selection, unusable
from nexusrag.identity.scim.paths import Target, resolve
from nexusrag.identity.scim.schema import Attribute

Condition = ColumnElement[bool]


def condition(rows: Rows, node: Node) -> Condition:
    """Rows that the filter means. What their kind has no attribute for has no value.

    Raises SCIM_PAYLOAD_INVALID with invalidFilter for a comparison that makes no sense.
    """
    return _compiled(_OfRow(rows), node, negated=False)


def names_in(node: Node) -> Iterator[str]:
    """Names of attributes of the resource, without those inside brackets."""
    if isinstance(node, Logic):
        for below in node.nodes:
            yield from names_in(below)
    elif isinstance(node, Not):
        yield from names_in(node.node)
    else:
        yield node.name


def sort_key(rows: Rows, name: str) -> Label[Any] | None:
    """What to sort by; None where this kind has no such attribute. Raises SCIM_PAYLOAD_INVALID with invalidValue."""
    target = resolve(rows.kind, name)
    if target is None:
        return None
    if target.last.kind == "complex":
        target = target.below("value") or target
    last = target.last
    if last.kind == "complex":
        raise invalid("invalidValue", f"sortBy: {name} is not one value; name one of its sub-attributes.")
    head = target.head
    key = rows.single(target) if not head[-1].many else rows.many(Target(head)).first(last if len(target.steps) > len(head) else None)
    if last.kind in ("boolean", "dateTime"):
        return key.label("key")
    return type_coerce(_folded(last, key), Text()).collate("C").label("key")


class _Scope(Protocol):
    """Where names are looked up: in a resource, or in one value of a list."""

    def resolve(self, name: str) -> Target | None: ...

    def single(self, target: Target) -> Expression: ...

    def many(self, target: Target) -> Values: ...


class _OfRow:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def resolve(self, name: str) -> Target | None:
        return resolve(self._rows.kind, name)

    def single(self, target: Target) -> Expression:
        return self._rows.single(target)

    def many(self, target: Target) -> Values:
        return self._rows.many(target)


class _OfValue:
    def __init__(self, attribute: Attribute, values: Values) -> None:
        self._attribute = attribute
        self._values = values

    def resolve(self, name: str) -> Target:
        if not self._attribute.subs and name.lower() == "value":
            return Target((_alone(self._attribute),))
        sub = self._attribute.sub(name)
        if sub is None:
            raise unusable(f"{self._attribute.name}.{name}")
        return Target((sub,))

    def single(self, target: Target) -> Expression:
        return self._values.of(target.last if self._attribute.subs else None)

    def many(self, target: Target) -> Values:
        raise LookupError(target)


def _alone(attribute: Attribute) -> Attribute:
    """One value of a list of texts."""
    return Attribute(attribute.name, attribute.about, kind=attribute.kind, case_exact=attribute.case_exact)


def _compiled(scope: _Scope, node: Node, *, negated: bool) -> Condition:
    """Negation goes down to the comparisons, so that a missing value (NULL) is false in what is left, and indexes serve."""
    if isinstance(node, Not):
        return _compiled(scope, node.node, negated=not negated)
    if isinstance(node, Logic):
        parts = [_compiled(scope, below, negated=negated) for below in node.nodes]
        return and_(*parts) if (node.op == "and") is not negated else or_(*parts)
    target = scope.resolve(node.name)
    if isinstance(node, Selection):
        return _selected(scope, target, node, negated=negated)
    if target is None:
        return _absent(node, negated=negated)
    if isinstance(node, Present):
        return _present(scope, target, negated=negated)
    test = test_of(target, node)
    return _tested(scope, test, negated=negated is not test.negated)


def _selected(scope: _Scope, target: Target | None, node: Selection, *, negated: bool) -> Condition:
    if target is None:
        return true() if negated else false()
    values = scope.many(demand_list(target, node.name))
    found = values.found(_compiled(_OfValue(target.last, values), node.node, negated=False))
    return not_(found) if negated else found


def _absent(node: Present | Comparison, *, negated: bool) -> Condition:
    holds = isinstance(node, Comparison) and ((node.value is None and node.op == "eq") or (node.value is not None and node.op == "ne"))
    return true() if holds is not negated else false()


def _present(scope: _Scope, target: Target, *, negated: bool) -> Condition:
    head, last = target.head, target.last
    if head[-1].many:
        values = scope.many(Target(head))
        subs = last.subs if last is head[-1] else (last,)
        found = values.found(or_(*(_filled(sub, values.of(sub)) for sub in subs)) if subs else true())
        return not_(found) if negated else found
    if last.kind == "complex":
        parts = [_present(scope, Target((*target.steps, sub)), negated=negated) for sub in last.subs]
        return and_(*parts) if negated else or_(*parts)
    filled = _filled(last, scope.single(target))
    return filled.is_not(true()) if negated else filled


def _filled(attribute: Attribute, value: Expression) -> Condition:
    return value.is_not(None) if attribute.kind in ("boolean", "dateTime") else value != literal("", Text())


def _tested(scope: _Scope, test: Test, *, negated: bool) -> Condition:
    if test.value is None:
        return _present(scope, test.target, negated=not negated)
    target, head = test.target, test.target.head
    if head[-1].many:
        values = scope.many(Target(head))
        found = values.found(_compared(test, values.of(target.last if len(target.steps) > len(head) else None)))
        return not_(found) if negated else found
    compared = _compared(test, scope.single(target))
    return compared.is_not(true()) if negated else compared


def _compared(test: Test, held: Expression) -> Condition:
    attribute, op, value = test.target.last, test.op, test.value
    if isinstance(value, bool):
        return held.is_(true() if value else false())
    if not isinstance(value, str):
        return _ordered(op, held, literal(value))
    left, right = _folded(attribute, held), _folded(attribute, literal(value, Text()))
    if op == "co":
        return func.strpos(left, right) > 0
    if op == "sw":
        return func.starts_with(left, right)
    if op == "ew":
        return func.right(left, func.length(right)) == right
    if op == "eq":
        return left == right
    return _ordered(op, left.collate("C"), right)


def _ordered(op: str, left: Expression, right: Expression) -> Condition:
    if op == "eq":
        return left == right
    return {"gt": left > right, "ge": left >= right, "lt": left < right, "le": left <= right}[op]


def _folded(attribute: Attribute, value: Expression) -> Expression:
    return value if attribute.case_exact else func.lower(value)
