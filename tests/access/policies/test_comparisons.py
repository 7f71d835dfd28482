"""What each operator makes of values of every type: the same table for Python and for PostgreSQL."""

from typing import Any

import asyncpg
import pytest

from nexusrag.access.policies import values
from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.evaluate import Step, compiled, evaluate
from nexusrag.access.policies.language import ALWAYS, UNKNOWN, Logic, Node, Not
from nexusrag.access.policies.residual import partial, settled
from nexusrag.access.policies.sql import to_sql
from tests.access.policies.conditions import of_rows, read

A, B, C = ({"var": f"resource.labels.{name}"} for name in "abc")
MISSING = object()
T, F, U = True, False, None

TABLE: list[tuple[dict[str, Any], Any, bool | None]] = [
    # Strings, numbers and booleans are different types, and none of them is another.
    ({"eq": [A, "1"]}, "1", T),
    ({"eq": [A, "1"]}, "2", F),
    ({"eq": [A, "1"]}, 1, U),
    ({"eq": [A, "1"]}, True, U),
    ({"eq": [A, 1]}, "1", U),
    ({"eq": [A, 1]}, True, U),
    ({"eq": [A, True]}, 1, U),
    ({"eq": [A, True]}, True, T),
    ({"eq": [A, False]}, 0, U),
    ({"eq": [A, "a"]}, None, U),
    ({"eq": [A, "a"]}, MISSING, U),
    ({"eq": [A, "a"]}, ["a"], U),
    ({"eq": [A, "a"]}, {"a": "a"}, U),
    ({"eq": ["a", A]}, "a", T),
    ({"eq": [A, "a"]}, "A", F),
    ({"eq": [A, "ä"]}, "a\u0308", F),
    # Numbers are those that JSON writes.
    ({"eq": [A, 1]}, 1.0, T),
    ({"eq": [A, 0]}, -0.0, T),
    ({"eq": [A, 0.3]}, 0.1 + 0.2, F),
    ({"eq": [A, 0.1]}, 0.1, T),
    ({"eq": [A, 2**53]}, 2**53 + 1, F),
    ({"eq": [A, 10**23]}, 1e23, T),
    ({"gt": [A, 2**53]}, 2**53 + 1, T),
    ({"lt": [A, 10**23]}, 1e23, F),
    ({"ne": [A, "a"]}, "b", T),
    ({"ne": [A, "a"]}, "a", F),
    ({"ne": [A, "a"]}, 1, U),
    ({"ne": [A, "a"]}, MISSING, U),
    ({"ne": [A, "a"]}, ["b"], U),
    ({"in": [A, ["a", "b"]]}, "b", T),
    ({"in": [A, ["a", "b"]]}, "c", F),
    ({"in": [A, ["a", 1]]}, 1.0, T),
    ({"in": [A, ["a", 1]]}, True, F),
    ({"in": [A, ["1"]]}, 1, F),
    ({"in": [A, ["a"]]}, ["a"], U),
    ({"in": [A, ["a"]]}, None, U),
    ({"in": [A, ["a"]]}, MISSING, U),
    ({"in": ["a", A]}, ["b", "a"], T),
    ({"in": ["a", A]}, ["b", ["a"], {"a": 1}, None], F),
    ({"in": ["a", A]}, [], F),
    ({"in": ["a", A]}, "a", U),
    ({"in": [1, A]}, [True, "1"], F),
    ({"in": [1, A]}, [1.0], T),
    ({"contains": [A, "b"]}, ["a", "b"], T),
    ({"contains": [A, "b"]}, ["ab"], F),
    ({"contains": [A, "b"]}, "abc", T),
    ({"contains": [A, ""]}, "", T),
    ({"contains": [A, "%"]}, "abc", F),
    ({"contains": [A, 1]}, "1", U),
    ({"contains": [A, 1]}, [1], T),
    ({"contains": [A, "b"]}, 1, U),
    ({"contains": [A, "b"]}, {"b": 1}, U),
    ({"contains": [A, "b"]}, MISSING, U),
    ({"contains": [["a", "b"], A]}, "a", T),
    ({"contains": ["abc", A]}, "bc", T),
    ({"contains": ["abc", A]}, ["bc"], U),
    ({"gt": [A, 1]}, 2, T),
    ({"gt": [A, 1]}, 1, F),
    ({"gte": [A, 1]}, 1.0, T),
    ({"lt": [A, 1]}, 0.5, T),
    ({"lte": [A, 1]}, 1, T),
    ({"lte": [A, 1]}, 1.5, F),
    ({"gt": [A, 1]}, "2", U),
    ({"gt": [A, 1]}, True, U),
    ({"gt": [A, 1]}, [2], U),
    ({"gt": [A, 1]}, None, U),
    ({"gt": [A, "a"]}, "b", T),
    ({"lt": [A, "a"]}, "Z", T),
    ({"lt": [A, "\uffff"]}, "𝄞", F),
    ({"gte": [A, "2026-01-01T00:00:00Z"]}, "2026-03-01T12:00:00Z", T),
    ({"starts_with": [A, "a%"]}, "a%b", T),
    ({"starts_with": [A, "a%"]}, "abb", F),
    ({"starts_with": [A, ""]}, "x", T),
    ({"starts_with": [A, "a"]}, ["a"], U),
    ({"starts_with": [A, "a"]}, MISSING, U),
    ({"starts_with": ["abc", A]}, "ab", T),
    ({"matches": [A, "^a.c$"]}, "abc", T),
    ({"matches": [A, "^a.c$"]}, "abcd", F),
    ({"matches": [A, "a"]}, 1, U),
    ({"matches": [A, "a"]}, MISSING, U),
    ({"exists": A}, "", T),
    ({"exists": A}, False, T),
    ({"exists": A}, [], T),
    ({"exists": A}, {}, T),
    ({"exists": [A]}, "x", T),
    ({"exists": A}, None, F),
    ({"exists": A}, MISSING, F),
    ({"exists": {"var": "resource.labels.a.b"}}, {"b": 1}, T),
    ({"exists": {"var": "resource.labels.a.b"}}, ["b"], F),
    ({"exists": {"var": "resource.labels.a.b"}}, "b", F),
    ({"eq": [{"var": "resource.labels.a.b-c.d"}, 1]}, {"b-c": {"d": 1}}, T),
    # Unknown is neither: only what decides without it prevails.
    ({"not": {"eq": [A, "a"]}}, "a", F),
    ({"not": {"eq": [A, "a"]}}, MISSING, U),
    ({"not": [{"exists": A}]}, MISSING, T),
    ({"all": [{"exists": A}, {"eq": [A, "a"]}]}, MISSING, F),
    ({"all": [{"eq": [A, "a"]}, {"exists": B}]}, MISSING, F),
    ({"all": [{"eq": [A, "a"]}, {"not": {"exists": B}}]}, MISSING, U),
    ({"any": [{"eq": [A, "a"]}, {"not": {"exists": B}}]}, MISSING, T),
    ({"any": [{"eq": [A, "a"]}, {"exists": B}]}, MISSING, U),
    ({"any": [{"eq": [A, "a"]}, {"eq": [A, "b"]}]}, "b", T),
    ({"all": [{"eq": [A, "a"]}, {"ne": [A, "b"]}]}, "a", T),
]


@pytest.mark.parametrize(("condition", "value", "outcome"), TABLE)
async def test_operators(database: "asyncpg.Connection[Any]", condition: Any, value: Any, outcome: bool | None) -> None:
    node, row = read(condition), {"labels": {} if value is MISSING else {"a": value}}
    assert compiled(node)(Attributes({}, {}, row)) is outcome
    assert (await of_rows(database, node, [row])) == [outcome]


@pytest.mark.parametrize("condition", [None, {}])
async def test_no_condition_always_holds(database: "asyncpg.Connection[Any]", condition: Any) -> None:
    node = read(condition)
    assert compiled(node)(Attributes({}, {})) is True
    assert partial(node, Attributes({}, {}), ()) is True
    assert await of_rows(database, node, [{}]) == [True]


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ({"contains": [{"var": "principal.groups"}, "finance"]}, T),
        ({"in": ["legal", {"var": "principal.groups"}]}, F),
        ({"eq": [{"var": "principal.groups"}, "finance"]}, U),
        ({"eq": [{"var": "principal.role"}, "editor"]}, T),
        ({"exists": {"var": "principal.custom_role"}}, F),
        ({"eq": [{"var": "principal.custom_role"}, "x"]}, U),
        ({"starts_with": [{"var": "request.path"}, "/v1/documents"]}, T),
        # Text that no stored value can be is missing, here and in the database; so is what no condition compares.
        ({"eq": [{"var": "request.method"}, "GET"]}, U),
        ({"exists": {"var": "principal.email"}}, F),
        ({"eq": [{"var": "principal.tenant_id"}, 7]}, T),
        ({"eq": [{"var": "resource.labels.size"}, {"var": "principal.tenant_id"}]}, T),
        ({"contains": [{"var": "principal.group_ids"}, True]}, T),
        ({"in": [{"var": "resource.labels.team"}, {"var": "principal.group_ids"}]}, F),
        ({"eq": [{"var": "resource.labels.owner"}, {"var": "principal.id"}]}, T),
        ({"eq": [{"var": "resource.labels.owner"}, {"var": "request.method"}]}, U),
        ({"in": [{"var": "resource.labels.team"}, {"var": "principal.groups"}]}, T),
    ],
)
async def test_callers_and_requests(database: "asyncpg.Connection[Any]", condition: Any, outcome: bool | None) -> None:
    row = {"labels": {"owner": "user-1", "team": "finance", "size": 7}}
    known = Attributes(
        {
            "id": "user-1", "role": "editor", "custom_role": None, "groups": ["finance", None, "\0"], "tenant_id": 7,
            "email": {"home": "a@b.example"}, "group_ids": [["finance"], {"finance": 1}, True],
        },
        {"path": "/v1/documents/x", "method": "G\0T"},
        row,
    )  # fmt: skip
    node = read(condition)
    assert compiled(node)(known) is outcome
    left = partial(node, known, {"principal", "request"})
    assert (left if left is None or isinstance(left, bool) else (await of_rows(database, left, [row]))[0]) is outcome


def test_what_a_type_of_resource_does_not_have_is_missing() -> None:
    condition: Node = read({"any": [{"exists": {"var": "resource.filename"}}, {"eq": [{"var": "resource.filename"}, "x"]}]})
    assert partial(condition, Attributes({}, {}), (), names={"id"}) is None
    assert partial(read({"exists": {"var": "resource.filename"}}), Attributes({}, {}), (), names={"id"}) is False


def test_a_resource_that_is_known_is_put_in_like_the_caller() -> None:
    condition = read({"eq": [{"var": "resource.labels.a.b"}, {"var": "principal.id"}]})
    for labels, outcome in (({"a": {"b": "x"}}, True), ({"a": {"b": "y"}}, False), ({"a": "x"}, None)):
        left = partial(condition, Attributes({}, {}, {"labels": labels}), {"resource"})
        assert (evaluate(left, Attributes({"id": "x"}, {})) if isinstance(left, Node) else left) is outcome


def test_what_is_unknown_whatever_the_resource_counts_against_whoever_asks() -> None:
    """Also below a not, which turns round what it is to be taken for."""
    for unknown in (False, True):
        assert settled(UNKNOWN, unknown) is unknown
        assert settled(Not(UNKNOWN), unknown) is unknown
        assert settled(Not(Logic("any", (UNKNOWN, Not(UNKNOWN)))), unknown) is unknown


class Text(str):
    """As members of an enumeration are."""


def test_a_text_of_a_type_of_its_own_is_the_text() -> None:
    text = Text("b")
    assert (values.kind(text), values.key(text), type(values.key(text))) == ("string", "b", str)
    assert [values.equal(text, "b"), values.equal("a", text), values.differ(text, "b")] == [T, F, F]
    assert [values.less("a", text), values.less(text, "b"), values.at_most(text, "b"), values.less(text, 1)] == [T, F, T, U]


async def test_one_of_none_never_holds(database: "asyncpg.Connection[Any]") -> None:
    node = Logic("any", ())
    assert compiled(node)(Attributes({}, {})) is False
    assert await of_rows(database, node, [{}]) == [False]


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ({"eq": [A, "x"]}, "missing resource.labels.a"),
        ({"ip_in": [{"var": "request.ip"}, ["10.0.0.0/8"]]}, "request.ip is not a network address"),
        ({"time_between": [{"var": "request.time"}, {"start": "09:00", "end": "10:00"}]}, "request.time is not a time with a zone"),
        ({"gt": [B, 1]}, "gt does not compare these types: resource.labels.b is a list and the constant is a number"),
        ({"matches": [B, "x"]}, "resource.labels.b is a list, matches is about text"),
        ({"contains": [["a"], B]}, "contains does not compare these types: the constant is a list and resource.labels.b is a list"),
        ({"lt": [C, 1]}, "lt does not compare these types: resource.labels.c is a value of another type and the constant is a number"),
    ],
)
def test_a_trace_says_why_an_outcome_is_unknown(condition: Any, reason: str) -> None:
    trace: list[Step] = []
    evaluate(read({"not": condition}), Attributes({}, {"ip": "somewhere", "time": "today"}, {"labels": {"b": [], "c": {}}}), trace)
    (op,) = condition
    assert [step.as_dict() for step in trace] == [
        {"path": f"$.not.{op}", "op": op, "outcome": "unknown", "reason": reason},
        {"path": "$.not", "op": "not", "outcome": "unknown"},
    ]


@pytest.mark.parametrize(
    ("node", "steps"),
    [
        (ALWAYS, [{"path": "$", "op": "all", "outcome": "true"}]),
        (Logic("any", ()), [{"path": "$", "op": "any", "outcome": "false"}]),
        (UNKNOWN, [{"path": "$", "op": "unknown", "outcome": "unknown", "reason": "the policy cannot be read"}]),
        (
            read({"any": [{"eq": [A, "b"]}, {"not": {"exists": A}}, {"exists": A}]}),
            [
                {"path": "$.any[0].eq", "op": "eq", "outcome": "false"},
                {"path": "$.any[1].not.exists", "op": "exists", "outcome": "true"},
                {"path": "$.any[1].not", "op": "not", "outcome": "false"},
                {"path": "$.any[2].exists", "op": "exists", "outcome": "true"},
                {"path": "$.any", "op": "any", "outcome": "true"},
            ],
        ),
    ],
)
def test_a_trace_names_each_node_after_what_is_inside_it(node: Node, steps: list[dict[str, str]]) -> None:
    trace: list[Step] = []
    attributes = Attributes({}, {}, {"labels": {"a": "a"}})
    assert evaluate(node, attributes, trace) is evaluate(node, attributes)
    assert [step.as_dict() for step in trace] == steps


async def test_postgres_puts_comparisons_into_the_statement(database: "asyncpg.Connection[Any]") -> None:
    """Called one by one they would cost several times as much."""
    condition = {
        "all": [
            {"eq": [A, "a"]},
            {"in": [A, ["a", "b"]]},
            {"contains": [A, "a"]},
            {"lt": [A, "b"]},
            {"starts_with": [A, "a"]},
            {"matches": [A, "a"]},
        ]
    }
    constants: list[Any] = []
    expression = to_sql(read(condition), {"labels": "row"}, constants).replace(":policy_values", "'[]'")
    plan = await database.fetch(
        "explain select 1 from (select jsonb_build_object('a', g::text) as row from generate_series(1, 2) g offset 0) r "
        f"where {expression} or policy_among(row, '{{}}')"
    )
    assert "policy_" not in "\n".join(record[0] for record in plan)
