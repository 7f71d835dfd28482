"""What a comparison means for an attribute of a certain type, wherever it is carried out: in SQL (conditions) or on values (matching)."""

from dataclasses import dataclass
from datetime import UTC, datetime

from nexusrag.identity.scim.answers import invalid
from nexusrag.identity.scim.documents import is_ambiguous
from nexusrag.identity.scim.filters import Comparison, Operator, fold, unusable
from nexusrag.identity.scim.paths import Target
from nexusrag.identity.scim.schema import Attribute

_ORDERED = frozenset({"gt", "ge", "lt", "le"})
_PARTIAL = frozenset({"co", "sw", "ew"})


@dataclass(frozen=True, slots=True)
class Test:
    """A checked comparison. `ne` has become a negated `eq`; a `value` of None asks for absence."""

    target: Target
    op: Operator
    value: str | bool | datetime | None
    negated: bool


def test_of(target: Target, comparison: Comparison) -> Test:
    """Raises SCIM_PAYLOAD_INVALID with invalidFilter for a comparison that the attribute's type does not know."""
    if target.last.kind == "complex":
        below = target.below("value")
        if below is None:
            raise invalid("invalidFilter", f"{comparison.name} is not one value; name one of its sub-attributes.")
        target = below
    negated = comparison.op == "ne"
    op: Operator = "eq" if negated else comparison.op
    if comparison.value is None:
        if op != "eq":
            raise invalid("invalidFilter", f"{comparison.name}: null can be asked for with eq and ne alone.")
        return Test(target, op, None, negated)
    return Test(target, op, _value(target.last, comparison, op), negated)


def _value(attribute: Attribute, comparison: Comparison, op: Operator) -> str | bool | datetime:
    value, name = comparison.value, comparison.name
    if attribute.kind == "boolean":
        if isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if not isinstance(value, bool) or op != "eq":
            raise invalid("invalidFilter", f"{name} can be compared with true and false, by eq and ne.")
        return value
    if not isinstance(value, str):
        raise invalid("invalidFilter", f"{name} can be compared with a text alone.")
    if attribute.kind == "dateTime":
        if op in _PARTIAL:
            raise invalid("invalidFilter", f"{name} is a moment and knows no {op}.")
        return _moment(name, value)
    if attribute.kind == "binary" and op in _ORDERED:
        raise invalid("invalidFilter", f"{name} is binary and knows no {op}.")
    if attribute.unique and is_ambiguous(value):
        raise invalid("invalidFilter", f"{name}: a letter of the text would in small letters be another one.")
    return value if attribute.case_exact else fold(value)


def _moment(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid("invalidFilter", f"{name} can be compared with a moment such as 2026-01-31T12:00:00Z.") from error


def demand_list(target: Target | None, name: str) -> Target:
    """The list that brackets select from."""
    if target is None:
        raise unusable(name)
    if not target.last.many:
        raise invalid("invalidFilter", f"{name} holds no list to select from.")
    return target
