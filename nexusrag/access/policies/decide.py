"""All policies that bind a tenant, and what they say: of one resource at once, and of all rows of a table as SQL.

A denying policy wins over every allowing one, whatever their priorities, and applies also where its condition is unknown: a
missing value never grants. Priority decides which policy is named.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from nexusrag.access.policies.attributes import SCHEMAS, Attributes, Schema, schema_of
from nexusrag.access.policies.evaluate import WORDS, Compiled, Step, compiled, evaluate
from nexusrag.access.policies.index import Index
from nexusrag.access.policies.language import UNKNOWN, Comparison, Const, Limits, Logic, Node, Not, PolicyError, Var, parse
from nexusrag.access.policies.patterns import Pattern
from nexusrag.access.policies.residual import merged, partial, settled, variables
from nexusrag.access.policies.sql import PARAMETER, to_sql
from nexusrag.access.policies.values import Outcome

Effect: TypeAlias = Literal["allow", "deny"]
_CALLER = frozenset({"principal"})
_CALL = frozenset({"principal", "request"})
# PostgreSQL keeps 32 patterns compiled. With one more in a statement each row compiles all anew, which takes 20 times as long.
MAX_PATTERNS = 30
# Callers of one kind whose residuals are kept, for each type and action.
_KEPT = 128


@dataclass(frozen=True)
class Policy:
    """An enabled policy. `fault`: why its condition cannot be read, which makes it unknown."""

    id: str
    effect: Effect
    resource_type: str
    action: str
    priority: int
    condition: Node
    fault: PolicyError | None = None

    @cached_property
    def holds(self) -> Compiled:
        return compiled(self.condition)

    def applies(self, outcome: Outcome) -> bool:
        return outcome is True or (outcome is None and self.effect == "deny")


def read_policy(
    policy_id: str, effect: Effect, resource_type: str, action: str, priority: int, condition: Any, limits: Limits,
    schemas: Mapping[str, Schema] = SCHEMAS,
) -> Policy:  # fmt: skip
    """A stored policy. One that this release cannot read keeps denying, and no longer allows."""
    try:
        node, fault = parse(condition, schema_of(resource_type, schemas), limits), None
    except PolicyError as error:
        node, fault = UNKNOWN, error
    return Policy(policy_id, effect, resource_type, action, priority, node, fault)


@dataclass(frozen=True, slots=True)
class Decision:
    """Ids of the policies that decided. Neither means that no policy applies. `matched` and `trace` are filled by `explain`."""

    denied_by: str | None
    allowed_by: str | None
    matched: tuple[str, ...] = ()
    trace: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Residual:
    """Whether policies allow and deny, or SQL that says so for a row and is never NULL. `values` is the JSON text to bind."""

    allow: bool | str
    deny: bool | str
    values: str = "[]"


class PolicySet:
    """Immutable. Made anew when a policy changes."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = tuple(sorted(policies, key=lambda policy: (-policy.priority, policy.id)))
        self._slices: dict[tuple[str, str], _Slice] = {}

    def prepare(self, previous: "PolicySet") -> None:
        """Do now, on whatever thread this is, what the set that this one replaces was asked for: it takes a while with thousands."""
        for resource_type, action in list(previous._slices):
            self._slice(resource_type, action)

    def decide(self, resource_type: str, action: str, attributes: Attributes) -> Decision:
        """What the policies say of one resource. Where one denies, none is asked whether it allows."""
        there = self._slice(resource_type, action)
        denied_by = there.deny.first(attributes)
        return Decision(denied_by, there.allow.first(attributes) if denied_by is None else None)

    def explain(self, resource_type: str, action: str, attributes: Attributes) -> Decision:
        """The same with every policy asked: all that apply, and each node of each, by priority."""
        matched: list[Policy] = []
        trace: list[dict[str, Any]] = []
        for policy in self._about(resource_type, action):
            steps: list[Step] = []
            outcome = evaluate(policy.condition, attributes, steps)
            applies = policy.applies(outcome)
            if applies:
                matched.append(policy)
            trace.append(
                {
                    "policy_id": policy.id,
                    "effect": policy.effect,
                    "outcome": WORDS[outcome],
                    "applies": applies,
                    "steps": [step.as_dict() for step in steps],
                }
            )
        denied_by = next((policy.id for policy in matched if policy.effect == "deny"), None)
        allowed_by = next((policy.id for policy in matched if policy.effect == "allow"), None) if denied_by is None else None
        return Decision(denied_by, allowed_by, tuple(policy.id for policy in matched), tuple(trace))

    def residual(
        self, resource_type: str, action: str, attributes: Attributes, columns: Mapping[str, str], parameter: str = PARAMETER
    ) -> Residual:
        """What the policies say of rows. `columns`: an expression of type jsonb for each attribute that a resource of this type has.

        Keep `columns` as one object for the life of the process: what is worked out for it is kept as long as this set.
        """
        return self._slice(resource_type, action).residual(attributes, columns, parameter)

    def patterns(self, resource_type: str) -> int:
        """Different patterns that rows of this type are matched with; more than MAX_PATTERNS are not to be let in."""
        about = (policy.condition for policy in self.policies if policy.resource_type in (resource_type, "*"))
        return len({pattern for condition in about for pattern in _patterns(condition)})

    def _about(self, resource_type: str, action: str) -> list[Policy]:
        return [policy for policy in self.policies if policy.resource_type in (resource_type, "*") and policy.action in (action, "*")]

    def _slice(self, resource_type: str, action: str) -> "_Slice":
        found = self._slices.get((resource_type, action))
        if found is None:
            found = self._slices[resource_type, action] = _Slice(self._about(resource_type, action))
        return found


class _Side:
    """The policies of one effect, by priority."""

    def __init__(self, policies: Sequence[Policy], *, denies: bool) -> None:
        first: dict[Node, Policy] = {}
        for policy in policies:  # of two with the same condition the second is never the one that is named
            first.setdefault(policy.condition, policy)
        self._policies = list(first.values())
        self._denies = denies
        self._index = Index(list(first), unknown_counts=denies)

    def first(self, attributes: Attributes) -> str | None:
        never = False if self._denies else None
        for place in self._index.candidates(attributes):
            policy = self._policies[place]
            outcome = policy.holds(attributes)
            if outcome is not False and outcome is not never:
                return policy.id
        return None

    def of_caller(self, attributes: Attributes, names: Collection[str]) -> bool | list[Node]:
        """True if one applies to every resource and request; else what those that may apply depend on."""
        places = self._index.candidates(attributes, _CALLER)
        return self.left((self._policies[place].condition for place in places), attributes, _CALLER, names)

    def left(self, conditions: Iterable[Node], attributes: Attributes, known: Collection[str], names: Collection[str]) -> bool | list[Node]:
        rest: list[Node] = []
        for condition in conditions:
            part = partial(condition, attributes, known, names)
            part = self._denies if part is None else part if isinstance(part, bool) else settled(part, self._denies)
            if part is True:
                return True
            if part is not None and part is not False:
                rest.append(part)
        return rest

    def sql(self, alternatives: Sequence[str]) -> bool | str:
        """For a row: whether one of them applies."""
        return f"(({' or '.join(alternatives)}) is {'not false' if self._denies else 'true'})" if alternatives else False


@dataclass(slots=True)
class _Rest:
    """What is left for one kind of caller: for each side whether it is decided, its SQL so far, and what the request decides."""

    columns: Mapping[str, str]
    decided: list[bool] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)
    waiting: list[list[Node]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    final: Residual | None = None


class _Slice:
    """The policies for one type and action."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self.deny = _Side([policy for policy in policies if policy.effect == "deny"], denies=True)
        self.allow = _Side([policy for policy in policies if policy.effect == "allow"], denies=False)
        self._policies = policies
        self._rests: dict[tuple[Any, ...], _Rest] = {}

    def residual(self, attributes: Attributes, columns: Mapping[str, str], parameter: str) -> Residual:
        rest = self._rest(attributes, columns, parameter)
        if rest.final is not None:
            return rest.final
        values = list(rest.values)
        said: list[bool | str] = []
        for place, side in enumerate((self.deny, self.allow)):
            more = side.left(rest.waiting[place], attributes, _CALL, columns)
            if rest.decided[place] or isinstance(more, bool):
                said.append(True)
                continue
            said.append(side.sql([*rest.texts[place], *(to_sql(node, columns, values, parameter) for node in merged(more))]))
        return _residual(said, values)

    @cached_property
    def _names(self) -> list[str]:
        """What the policies ask of a caller."""
        return sorted({var.names[0] for policy in self._policies for var in variables(policy.condition) if var.root == "principal"})

    def _rest(self, attributes: Attributes, columns: Mapping[str, str], parameter: str) -> _Rest:
        """Kept for callers who do not differ in what the policies name, so that all editors may share one."""
        kept = tuple(_frozen(attributes.principal.get(name)) for name in self._names), id(columns), parameter
        found = self._rests.get(kept)
        if found is None:
            if len(self._rests) >= _KEPT:
                del self._rests[next(iter(self._rests))]
            found = self._rests[kept] = self._new_rest(attributes, columns, parameter)
        return found

    def _new_rest(self, attributes: Attributes, columns: Mapping[str, str], parameter: str) -> _Rest:
        rest = _Rest(columns)  # holds on to it, so that no other mapping gets its id
        for side in (self.deny, self.allow):
            nodes = side.of_caller(attributes, columns)
            rest.decided.append(nodes is True)
            left = [] if isinstance(nodes, bool) else nodes
            waits = [any(var.root == "request" for var in variables(node)) for node in left]
            rest.waiting.append([node for node, wait in zip(left, waits, strict=True) if wait])
            fixed = merged(node for node, wait in zip(left, waits, strict=True) if not wait)
            rest.texts.append([to_sql(node, columns, rest.values, parameter) for node in fixed])
        if not any(rest.waiting):
            sides = zip((self.deny, self.allow), rest.decided, rest.texts, strict=True)
            rest.final = _residual([decided or side.sql(texts) for side, decided, texts in sides], rest.values)
        return rest


def _residual(said: Sequence[bool | str], values: list[Any]) -> Residual:
    deny, allow = said
    return Residual(allow, deny, json.dumps(values, ensure_ascii=False, separators=(",", ":")))


def _frozen(value: Any) -> Any:
    """Hashable, and with its types: 1, 1.0 and true are equal in Python."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else (type(value), value)


def _patterns(node: Node) -> set[str]:
    if isinstance(node, Logic):
        return set().union(*(_patterns(below) for below in node.nodes))
    if isinstance(node, Not):
        return _patterns(node.node)
    if not isinstance(node, Comparison) or not any(isinstance(operand, Var) and operand.root == "resource" for operand in node.operands):
        return set()
    constants = (operand.value for operand in node.operands if isinstance(operand, Const))
    return {value.source for value in constants if isinstance(value, Pattern)}
