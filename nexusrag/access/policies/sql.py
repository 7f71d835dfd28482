"""What is left of a condition as SQL. Its constants stand in one list, so that the text depends on the condition's shape alone.

The comparisons are those of `alembic/versions/0004_functions.sql`; NULL is unknown.
"""

from collections.abc import Mapping
from typing import Any

from nexusrag.access.policies.language import Comparison, Const, Logic, Node, Not, Unknown, Var
from nexusrag.access.policies.patterns import Pattern

PARAMETER = "policy_values"
_FUNCTIONS = {
    "eq": "policy_eq({0}, {1})",
    "ne": "not policy_eq({0}, {1})",
    "in": "policy_in({0}, {1})",
    "among": "policy_among({0}, {1})",
    "contains": "policy_contains({0}, {1})",
    "gt": "policy_less({1}, {0}, false)",
    "gte": "policy_less({1}, {0}, true)",
    "lt": "policy_less({0}, {1}, false)",
    "lte": "policy_less({0}, {1}, true)",
    "starts_with": "policy_starts({0}, {1})",
    "matches": "policy_matches({0}, {1})",
    "exists": "coalesce(jsonb_typeof({0}) <> 'null', false)",
}


def to_sql(node: Node, columns: Mapping[str, str], values: list[Any], parameter: str = PARAMETER) -> str:
    """A boolean expression for a residual over `resource` alone. Appends its constants, JSON values, to `values`.

    `columns` maps each attribute to an expression of type jsonb. Bind all of `values` as one JSON text to `parameter`.
    """
    if isinstance(node, Logic):
        if not node.nodes:
            return "true" if node.op == "all" else "false"
        word = " and " if node.op == "all" else " or "
        return f"({word.join(to_sql(below, columns, values, parameter) for below in node.nodes)})"
    if isinstance(node, Not):
        return f"(not {to_sql(node.node, columns, values, parameter)})"
    if isinstance(node, Unknown):
        return "cast(null as boolean)"
    return _test(node, columns, values, parameter)


def _test(test: Comparison, columns: Mapping[str, str], values: list[Any], parameter: str) -> str:
    return "(" + _FUNCTIONS[test.op].format(*(_operand(operand, test.op, columns, values, parameter) for operand in test.operands)) + ")"


def _operand(operand: Var | Const, op: str, columns: Mapping[str, str], values: list[Any], parameter: str) -> str:
    if isinstance(operand, Var):
        first, *below = operand.names
        # Names consist of letters, digits, _ and -, which stand for themselves inside the braces.
        return f"({columns[first]}) #> '{{{','.join(below)}}}'" if below else columns[first]
    value: Any = operand.value
    arrow = "->"
    if isinstance(value, Pattern):
        value, arrow = value.postgres, "->>"
    elif op == "among":
        value = dict.fromkeys(value)  # the keys of an object are found by halving, the members of a list one by one
    values.append(value)
    return f"(cast(:{parameter} as jsonb) {arrow} {len(values) - 1})"
