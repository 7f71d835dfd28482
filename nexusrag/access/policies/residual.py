"""What is left of conditions when some values are known: simplified by three-valued logic, and merged where many are alike."""

from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.evaluate import compiled
from nexusrag.access.policies.language import KINDS, UNKNOWN, Comparison, Const, Logic, Node, Not, Unknown, Var
from nexusrag.access.policies.values import Outcome, kind

Rest: TypeAlias = Node | Outcome


def variables(node: Node) -> frozenset[Var]:
    """All that the condition names."""
    if isinstance(node, Logic):
        return frozenset().union(*(variables(below) for below in node.nodes))
    if isinstance(node, Not):
        return variables(node.node)
    return frozenset(operand for operand in node.operands if isinstance(operand, Var)) if isinstance(node, Comparison) else frozenset()


def partial(node: Node, attributes: Attributes, known: Collection[str], names: Collection[str] | None = None) -> Rest:
    """The outcome if the `known` roots alone decide it, else a condition about the others that gives the same.

    `names`: what the resource has at all, where that is known; anything else is missing.
    """
    if isinstance(node, Logic):
        return _logic(node.op, (partial(below, attributes, known, names) for below in node.nodes), node.path)
    if isinstance(node, Not):
        return _negated(partial(node.node, attributes, known, names), node.path)
    return _test(node, attributes, known, names) if isinstance(node, Comparison) else None


def settled(node: Node, unknown: bool) -> Rest:
    """With `unknown` for what is unknown whatever the resource.

    A condition is true exactly if it is with False, and not false exactly if it is so with True: all, any and not respect the
    order of false, unknown, true, of which not is the reversal.
    """
    if isinstance(node, Logic):
        return _logic(node.op, (settled(below, unknown) for below in node.nodes), node.path)
    if isinstance(node, Not):
        return _negated(settled(node.node, not unknown), node.path)
    return unknown if isinstance(node, Unknown) else node


def merged(nodes: Iterable[Node]) -> list[Node]:
    """The same alternatives with those that compare one variable with a string by `eq` made one.

    `among` is unknown where the variable is no string, as each of them is; `in` would be false.
    """
    kept: list[Node] = []
    texts: dict[Var, dict[str, None]] = {}
    for node in nodes:
        found = _equality(node)
        if found is None:
            kept.append(node)
        else:
            texts.setdefault(found[0], {})[found[1]] = None
    return [*(Comparison("among", (var, Const(tuple(strings)))) for var, strings in texts.items()), *kept]


def _equality(node: Node) -> tuple[Var, str] | None:
    if not isinstance(node, Comparison) or node.op != "eq":
        return None
    left, right = node.operands
    if isinstance(left, Const):
        left, right = right, left
    if isinstance(left, Var) and isinstance(right, Const) and isinstance(right.value, str):
        return left, right.value
    return None


def _logic(op: Literal["all", "any"], parts: Iterable[Rest], path: str) -> Rest:
    ends = op == "any"
    rest: list[Node] = []
    unknown = False
    for part in parts:
        if part is ends:
            return ends
        if part is None or isinstance(part, Unknown):
            unknown = True
        elif isinstance(part, Logic) and part.op == op:
            rest.extend(part.nodes)
        elif not isinstance(part, bool):
            rest.append(part)
    if not rest:
        return None if unknown else not ends
    if unknown:
        rest.append(UNKNOWN)
    return rest[0] if len(rest) == 1 else Logic(op, tuple(rest), path)


def _negated(part: Rest, path: str) -> Rest:
    if part is None or isinstance(part, bool):
        return None if part is None else not part
    return part.node if isinstance(part, Not) else Not(part, path)


def _test(test: Comparison, attributes: Attributes, known: Collection[str], names: Collection[str] | None) -> Rest:
    exists = test.op == "exists"
    operands: list[Var | Const] = []
    for operand in test.operands:
        if isinstance(operand, Var):
            if operand.root == "resource" and names is not None and operand.names[0] not in names:
                return False if exists else None
            if operand.root in known and not exists:
                value = attributes.read(operand.root, operand.names)
                operand = Const(tuple(value) if kind(value) == "list" else value)
        operands.append(operand)
    if not any(isinstance(operand, Var) and operand.root not in known for operand in test.operands):
        return compiled(test)(attributes)
    return Comparison(test.op, tuple(operands), test.path) if _may_fit(test.op, operands) else None


def _may_fit(op: str, operands: list[Var | Const]) -> bool:
    """Whether the constants are of types that the operator takes. If not, the comparison is unknown whatever the variable is."""
    return op not in KINDS or all(
        isinstance(operand, Var) or kind(operand.value) in kinds for operand, kinds in zip(operands, KINDS[op], strict=True)
    )
