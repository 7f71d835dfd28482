"""Conditions against values: compiled to closures for decisions, and walked step by step for whoever asks why."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from nexusrag.access.policies import values
from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.language import Comparison, Const, Logic, Node, Not, Var
from nexusrag.access.policies.values import Outcome, kind

Compiled: TypeAlias = Callable[[Attributes], Outcome]
Read: TypeAlias = Callable[[Attributes], Any]

# What the operators are where both sides are integers, or both are strings.
_PLAINLY: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "starts_with": str.startswith,
}
_COMPARISONS: Mapping[str, Callable[[Any, Any], Outcome]] = {
    "eq": values.equal,
    "ne": values.differ,
    "in": values.within,
    "contains": values.contains,
    "gt": lambda a, b: values.less(b, a),
    "gte": lambda a, b: values.at_most(b, a),
    "lt": values.less,
    "lte": values.at_most,
    "starts_with": values.starts,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a condition: where it stands, its operator, what it gave, and why that is unknown."""

    path: str
    op: str
    outcome: Outcome
    reason: str | None = None

    def as_dict(self) -> dict[str, str]:
        told = {"path": self.path, "op": self.op, "outcome": WORDS[self.outcome]}
        return told if self.reason is None else {**told, "reason": self.reason}


WORDS: Mapping[Outcome, str] = {True: "true", False: "false", None: "unknown"}


def evaluate(condition: Node, attributes: Attributes, trace: list[Step] | None = None) -> Outcome:
    """The outcome of a condition. `trace` receives a step for each node, outer nodes after what is inside them."""
    return compiled(condition)(attributes) if trace is None else _explain(condition, attributes, trace)


def compiled(node: Node) -> Compiled:
    """The condition as a function that is quick and never raises."""
    if isinstance(node, Logic):
        return _logic(tuple(compiled(below) for below in node.nodes), ends=node.op == "any")
    if isinstance(node, Not):
        return _negated(compiled(node.node))
    return _test(node) if isinstance(node, Comparison) else lambda _: None


def reader(var: Var) -> Read:
    """A function that reads the variable's value, or None."""
    root, names, first = var.root, var.names, var.names[0]
    if root == "principal":
        return lambda a: a.principal.get(first)
    if root == "request":
        return lambda a: a.request.get(first)
    if len(names) == 1:
        return lambda a: a.resource.get(first)
    below = names[1:]

    def nested(attributes: Attributes) -> Any:
        value = attributes.resource.get(first)
        for name in below:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return nested


def _logic(tests: tuple[Compiled, ...], *, ends: bool) -> Compiled:
    """One test that gives `ends` decides: true for any, false for all. Else one that is unknown."""

    def logic(attributes: Attributes) -> Outcome:
        outcome: Outcome = not ends
        for test in tests:
            given = test(attributes)
            if given is ends:
                return ends
            if given is None:
                outcome = None
        return outcome

    return logic


def _negated(test: Compiled) -> Compiled:
    def negated(attributes: Attributes) -> Outcome:
        outcome = test(attributes)
        return None if outcome is None else not outcome

    return negated


def _test(test: Comparison) -> Compiled:
    left = _operand(test.operands[0])
    if test.op == "exists":
        return lambda a: left(a) is not None
    second = test.operands[1]
    constant: Any = second.value if isinstance(second, Const) else None
    if test.op == "time_between":
        return _whether(lambda a: a.local(constant.zone), constant.holds)
    if test.op == "ip_in":
        return _whether(lambda a: a.address, constant.holds)
    if test.op == "matches":
        return lambda a: constant.search(value) if kind(value := left(a)) == "string" else None
    if test.op == "among":
        return _among(left, frozenset(constant))
    if test.op in _PLAINLY and type(constant) in (str, int):
        return _plainly(left, constant, _PLAINLY[test.op], _COMPARISONS[test.op])
    if test.op == "in" and constant is not None:
        return _in(left, frozenset(values.key(item) for item in constant))
    right, compare = _operand(second), _COMPARISONS[test.op]
    return lambda a: compare(left(a), right(a))


def _operand(operand: Var | Const) -> Read:
    if isinstance(operand, Var):
        return reader(operand)
    value = operand.value
    return lambda _: value


def _whether(subject: Read, holds: Callable[[Any], bool]) -> Compiled:
    return lambda a: holds(value) if (value := subject(a)) is not None else None


def _plainly(left: Read, constant: Any, same: Callable[[Any, Any], bool], other: Callable[[Any, Any], Outcome]) -> Compiled:
    """What most policies are made of, without asking for types."""
    sort = type(constant)

    def plainly(attributes: Attributes) -> Outcome:
        value = left(attributes)
        return same(value, constant) if type(value) is sort else other(value, constant)

    return plainly


def _in(left: Read, keys: frozenset[values.Key | None]) -> Compiled:
    def member(attributes: Attributes) -> Outcome:
        sought = values.key(left(attributes))
        return None if sought is None else sought in keys

    return member


def _among(left: Read, texts: frozenset[str]) -> Compiled:
    return lambda a: value in texts if kind(value := left(a)) == "string" else None


def _explain(node: Node, attributes: Attributes, trace: list[Step]) -> Outcome:
    if isinstance(node, Logic):
        outcomes = [_explain(below, attributes, trace) for below in node.nodes]
        outcome = _logic(tuple(_giving(given) for given in outcomes), ends=node.op == "any")(attributes)
        trace.append(Step(node.path, node.op, outcome))
    elif isinstance(node, Not):
        outcome = _negated(_giving(_explain(node.node, attributes, trace)))(attributes)
        trace.append(Step(node.path, "not", outcome))
    elif isinstance(node, Comparison):
        outcome = _test(node)(attributes)
        trace.append(Step(node.path, node.op, outcome, _reason(node, attributes) if outcome is None else None))
    else:
        outcome = None
        trace.append(Step(node.path, "unknown", None, "the policy cannot be read"))
    return outcome


def _giving(outcome: Outcome) -> Compiled:
    return lambda _: outcome


def _reason(test: Comparison, attributes: Attributes) -> str:
    """Why a comparison is unknown: what is missing, else which types do not fit. No values: a trace is for reading."""
    named = [(operand, _operand(operand)(attributes)) for operand in test.operands]
    for operand, value in named:
        if isinstance(operand, Var) and value is None:
            return f"missing {operand}"
    if test.op in ("time_between", "ip_in"):
        return f"{test.operands[0]} is not a {'time with a zone' if test.op == 'time_between' else 'network address'}"
    if test.op == "matches":
        return f"{test.operands[0]} is a {_sort(named[0][1])}, matches is about text"
    described = [f"{operand if isinstance(operand, Var) else 'the constant'} is a {_sort(value)}" for operand, value in named]
    return f"{test.op} does not compare these types: {' and '.join(described)}"


def _sort(value: Any) -> str:
    return kind(value) or "value of another type"
