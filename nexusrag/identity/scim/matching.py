"""Whether one value of a list is as a filter in a PATCH path says."""

from collections.abc import Sequence
from typing import Any

from nexusrag.identity.scim.answers import invalid
from nexusrag.identity.scim.comparing import Test, test_of
from nexusrag.identity.scim.filters import Comparison, Logic, Node, Not, Present, Selection, unusable
from nexusrag.identity.scim.paths import Target
from nexusrag.identity.scim.schema import Attribute


class Effort:
    """How many comparisons of values one request may cost: other requests wait for them."""

    def __init__(self, most: int = 200_000) -> None:
        self._left = most

    def spend(self, comparisons: int) -> None:
        self._left -= comparisons
        if self._left < 0:
            raise invalid("tooMany", "The operations ask for too many comparisons of values; send fewer at once.")


def chosen(attribute: Attribute, node: Node, values: Sequence[Any], effort: Effort) -> list[Any]:
    """Those of the values that are as the filter says. Raises SCIM_PAYLOAD_INVALID with invalidFilter, also where there is no value."""
    effort.spend((len(values) + 1) * _terms(node))
    matches(attribute, node, {})
    return [value for value in values if matches(attribute, node, value)]


def _terms(node: Node) -> int:
    if isinstance(node, Logic):
        return sum(_terms(below) for below in node.nodes)
    return _terms(node.node) if isinstance(node, Not | Selection) else 1


def matches(attribute: Attribute, node: Node, value: Any) -> bool:
    """Raises SCIM_PAYLOAD_INVALID with invalidFilter."""
    if isinstance(node, Logic):
        found = [matches(attribute, below, value) for below in node.nodes]  # all of them: a wrong name is told whatever the values are
        return all(found) if node.op == "and" else any(found)
    if isinstance(node, Not):
        return not matches(attribute, node.node, value)
    if isinstance(node, Selection):
        raise invalid("invalidFilter", "Brackets stand inside brackets.")
    sub = _sub(attribute, node.name)
    if isinstance(node, Present):
        return value.get(sub.name) not in (None, "")
    test = test_of(Target((attribute, sub)), node)
    return _holds(test, value.get(sub.name)) is not test.negated


def demanded(attribute: Attribute, node: Node) -> dict[str, Any] | None:
    """What a value must hold for `a eq x and b eq y`, so that one can be made; None for other conditions."""
    if isinstance(node, Comparison) and node.op == "eq" and node.value is not None:
        return {_sub(attribute, node.name).name: node.value}
    if isinstance(node, Logic) and node.op == "and":
        parts = [demanded(attribute, below) for below in node.nodes]
        if all(part is not None for part in parts):
            return {name: value for part in parts for name, value in (part or {}).items()}
    return None


def _sub(attribute: Attribute, name: str) -> Attribute:
    found = attribute.sub(name)
    if found is None:
        raise unusable(f"{attribute.name}.{name}")
    return found


def _holds(test: Test, held: Any) -> bool:
    if test.value is None:
        return held in (None, "")
    if held is None:
        return False
    if isinstance(test.value, bool):
        return bool(held is test.value)
    exact = test.target.last.case_exact
    left, right = (str(text) if exact else str(text).lower() for text in (held, test.value))
    found: bool = {
        "eq": left == right,
        "co": right in left,
        "sw": left.startswith(right),
        "ew": left.endswith(right),
        "gt": left > right,
        "ge": left >= right,
        "lt": left < right,
        "le": left <= right,
    }[test.op]
    return found
