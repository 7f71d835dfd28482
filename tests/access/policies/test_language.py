"""What is no condition: refused with its place and a remedy."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexusrag.access.policies.attributes import SCHEMAS, schema_of
from nexusrag.access.policies.language import (
    ALWAYS,
    INVALID,
    TOO_COMPLEX,
    UNKNOWN,
    Comparison,
    Const,
    Limits,
    Not,
    PolicyError,
    Unknown,
    check_target,
    parse,
)
from nexusrag.access.policies.patterns import parse_pattern
from nexusrag.kernel.errors import ErrorCode

A = {"var": "resource.labels.a"}


def refusal(condition: Any, resource_type: str = "document", limits: Limits = Limits()) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        parse(condition, schema_of(resource_type), limits)
    return caught.value


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        ([], "$"),
        ("eq", "$"),
        (1, "$"),
        (True, "$"),
        ({"equals": [A, 1]}, "$"),
        ({"EQ": [A, 1]}, "$"),
        ({"among": [A, ["a"]]}, "$"),
        ({"unknown": []}, "$"),
        ({"eq": [A, 1], "ne": [A, 2]}, "$"),
        ({"all": []}, "$.all"),
        ({"all": {"eq": [A, 1]}}, "$.all"),
        ({"any": [{}]}, "$.any[0]"),
        ({"any": [{"eq": [A, 1]}, None]}, "$.any[1]"),
        ({"not": None}, "$.not"),
        ({"not": []}, "$.not"),
        ({"not": [{"exists": A}, {"exists": A}]}, "$.not"),
        ({"not": {"not": {"eq": [A]}}}, "$.not.not.eq"),
        ({"exists": "resource.id"}, "$.exists"),
        ({"exists": [A, A]}, "$.exists"),
        ({"eq": [A]}, "$.eq"),
        ({"eq": [A, 1, 2]}, "$.eq"),
        ({"eq": {"a": 1}}, "$.eq"),
        ({"eq": A}, "$.eq"),
        ({"eq": [A, None]}, "$.eq[1]"),
        ({"eq": [A, ["a"]]}, "$.eq[1]"),
        ({"eq": [A, float("nan")]}, "$.eq[1]"),
        ({"eq": [A, float("inf")]}, "$.eq[1]"),
        ({"eq": [A, "\0"]}, "$.eq[1]"),
        ({"eq": [A, "\ud800"]}, "$.eq[1]"),
        ({"eq": [A, {"const": 1}]}, "$.eq[1]"),
        ({"eq": [A, {"var": "resource.id", "default": 1}]}, "$.eq[1]"),
        ({"eq": [A, {"var": 1}]}, "$.eq[1]"),
        ({"in": [A, "abc"]}, "$.in[1]"),
        ({"in": [A, []]}, "$.in[1]"),
        ({"in": [A, ["a", None]]}, "$.in[1][1]"),
        ({"in": [A, ["a", ["b"]]]}, "$.in[1][1]"),
        ({"in": [["a"], A]}, "$.in[0]"),
        ({"contains": [1, A]}, "$.contains[0]"),
        ({"contains": [A, ["a"]]}, "$.contains[1]"),
        ({"gt": [A, True]}, "$.gt[1]"),
        ({"lte": [A, [1]]}, "$.lte[1]"),
        ({"starts_with": [A, 1]}, "$.starts_with[1]"),
        ({"matches": [A, 1]}, "$.matches[1]"),
        ({"matches": [A, "(a"]}, "$.matches[1]"),
        ({"matches": [A, A]}, "$.matches[1]"),
        ({"matches": [A, "\0"]}, "$.matches[1]"),
        ({"matches": [1, "a"]}, "$.matches[0]"),
        ({"time_between": [A, {"start": "09:00", "end": "18:00"}]}, "$.time_between[0]"),
        ({"time_between": ["12:00", {"start": "09:00", "end": "18:00"}]}, "$.time_between[0]"),
        ({"ip_in": [{"var": "request.time"}, ["10.0.0.0/8"]]}, "$.ip_in[0]"),
        ({"ip_in": ["10.0.0.1", ["10.0.0.0/8"]]}, "$.ip_in[0]"),
    ],
)
def test_malformed_conditions_are_refused_with_their_place(condition: Any, path: str) -> None:
    error = refusal(condition)
    assert (error.code, error.path) == (INVALID, path)
    assert error.message.endswith(".")
    assert str(error) == f"{path}: {error.message}"


def test_refusals_have_the_codes_of_the_catalogue() -> None:
    assert (INVALID, TOO_COMPLEX) == (ErrorCode.AUTHZ_POLICY_INVALID, ErrorCode.AUTHZ_POLICY_TOO_COMPLEX)


@pytest.mark.parametrize(
    ("condition", "remedy"),
    [
        (
            {"equals": [A, 1]},
            "one of all, any, not, exists, matches, time_between, ip_in, eq, ne, in, contains, gt, gte, lt, lte, starts_with.$",
        ),
        ({"eq": [A, None]}, "Ask with exists"),
        ({"in": [A, "abc"]}, "a constant that is a list"),
        ({"in": [A, []]}, "list is empty"),
        ({"contains": [1, A]}, "a constant that is a list or a string"),
        ({"eq": [A, ["a"]]}, "a boolean or a number or a string"),
        ({"in": [A, [["a"]]]}, "Give a string, a number or a boolean"),
        ({"matches": [A, "\0"]}, "NUL"),
        ({"ip_in": [A, ["::1"]]}, r'give \{"var": "request.ip"\}'),
        (
            {"exists": {"var": "principal.secret"}},
            "principal has credential, credential_id, custom_role, email, group_ids, groups, id, role, tenant_id",
        ),
        ({"exists": {"var": "request.body"}}, "request has action, ip, method, path, time"),
        ({"exists": {"var": "resource"}}, "has content_type, .*, updated_at, labels.…, metadata.…"),
        ({"exists": {"var": "resource.id.x"}}, "resource.id has nothing below it"),
        ({"exists": {"var": "resource.labels"}}, "one to 5 names"),
    ],
)
def test_a_refusal_says_what_to_write_instead(condition: Any, remedy: str) -> None:
    assert re.search(remedy, refusal(condition).message)


@pytest.mark.parametrize(
    "name",
    [
        "", "resource", "principal", "resource.", "resource..id", ".resource.id", "resource.id.", "user.id", "Resource.id",
        "resource.__class__", "resource.constructor", "resource.__proto__", "resource.labels", "resource.labels.", "resource.labels.0",
        "resource.labels.a.0", "resource.labels[a]", "resource.labels.__class__", "resource.labels.a b", "resource.labels.a.b.c.d.e.f",
        "resource.labels." + "a" * 65, "resource.labels.ä", "resource.labels.a\n", "resource.id.x", "resource.filename.length",
        "resоurce.id", "resource.ıd", "resource.name", "resource.session_id", "principal.password", "principal.role.x",
        "request.headers", "request.body.role", "request.time.hour", "resource.labels.a'", "resource.labels.a}", 'resource.labels.a"',
    ],
)  # fmt: skip
def test_other_names_than_those_of_the_type_are_refused(name: str) -> None:
    error = refusal({"exists": {"var": name}})
    assert (error.code, error.path) == (INVALID, "$.exists.var")


@pytest.mark.parametrize(
    ("resource_type", "name"),
    [
        ("document", "labels.a-b_c.D9"),
        ("document", "metadata.a.b.c.d.e"),
        ("document", "labels.constructor"),
        ("document", "labels." + "a" * 64),
        ("*", "labels.a"),
        ("*", "session_id"),
        ("*", "visibility"),
    ],
)
def test_names_of_the_type_are_understood(resource_type: str, name: str) -> None:
    parse({"exists": {"var": f"resource.{name}"}}, schema_of(resource_type), Limits())


# All that a policy may name: whoever stored one relies on it.
NAMES = {
    "document": "id corpus_id filename content_type source status owner size_bytes created_at updated_at labels.x metadata.x",
    "corpus": "id name visibility owner created_at",
    "run": "id corpus_id session_id owner",
    "audio": "id",
}


@pytest.mark.parametrize("resource_type", NAMES)
def test_each_type_has_its_names_and_no_other_types(resource_type: str) -> None:
    own = NAMES[resource_type].split()
    for name in own:
        parse({"exists": {"var": f"resource.{name}"}}, schema_of(resource_type), Limits())
    for name in {name for names in NAMES.values() for name in names.split()}.difference(own):
        assert refusal({"exists": {"var": f"resource.{name}"}}, resource_type).path == "$.exists.var"


@pytest.mark.parametrize(
    "name",
    [
        "principal.id", "principal.tenant_id", "principal.role", "principal.custom_role", "principal.groups", "principal.group_ids",
        "principal.email", "principal.credential", "principal.credential_id",
        "request.time", "request.ip", "request.method", "request.path", "request.action",
    ],
)  # fmt: skip
def test_a_policy_on_any_type_may_ask_this_of_caller_and_request(name: str) -> None:
    for resource_type in (*NAMES, "*"):
        parse({"exists": {"var": name}}, schema_of(resource_type), Limits())


def nested(depth: int, op: str = "not") -> dict[str, Any]:
    condition: dict[str, Any] = {"exists": A}
    for _ in range(depth - 1):
        condition = {op: condition if op == "not" else [condition]}
    return condition


@pytest.mark.parametrize(("op", "step"), [("not", ".not"), ("all", ".all[0]"), ("any", ".any[0]")])
def test_depth_counts_operators(op: str, step: str) -> None:
    parse(nested(8, op), SCHEMAS["document"], Limits())
    error = refusal(nested(9, op))
    assert (error.code, error.path) == (TOO_COMPLEX, "$" + step * 8)


@pytest.mark.parametrize(("depth", "path"), [(33, "$" + ".not" * 8), (500, "$" + ".not" * 8), (100_000, "$")])
def test_depth_without_end_is_refused(depth: int, path: str) -> None:
    error = refusal(nested(depth), limits=Limits(bytes=10**9))
    assert (error.code, error.path) == (TOO_COMPLEX, path)


def test_size_counts_bytes_of_compact_json() -> None:
    condition = {"eq": [A, "ä" * 100]}
    size = len(json.dumps(condition, ensure_ascii=False, separators=(",", ":")).encode())
    parse(condition, SCHEMAS["document"], Limits(bytes=size))
    error = refusal(condition, limits=Limits(bytes=size - 1))
    assert (error.code, error.path) == (TOO_COMPLEX, "$")


def test_a_condition_has_at_most_16_kib() -> None:
    without = len('{"eq":[{"var":"resource.id"},""]}')
    fits, too_long = ({"eq": [{"var": "resource.id"}, "a" * (16_384 - without + more)]} for more in (0, 1))
    parse(fits, SCHEMAS["document"], Limits())
    assert refusal(too_long).code == TOO_COMPLEX


@pytest.mark.parametrize(
    ("condition", "count", "last"),
    [
        ({"exists": A}, 2, "$.exists"),
        ({"not": [{"exists": [A]}]}, 3, "$.not[0].exists[0]"),
        ({"eq": [A, 1]}, 3, "$.eq[1]"),
        ({"in": [A, ["a", "b", "c"]]}, 3, "$.in[1]"),
        ({"matches": [A, "a"]}, 3, "$.matches[1]"),
        ({"ip_in": [{"var": "request.ip"}, ["::1"]]}, 3, "$.ip_in[1]"),
        ({"any": [{"exists": A}, {"eq": [A, A]}]}, 6, "$.any[1].eq[1]"),
    ],
)
def test_each_operator_and_each_operand_counts_once(condition: Any, count: int, last: str) -> None:
    parse(condition, SCHEMAS["document"], Limits(nodes=count))
    error = refusal(condition, limits=Limits(nodes=count - 1))
    assert (error.code, error.path) == (TOO_COMPLEX, last)


def test_operators_and_operands_are_counted() -> None:
    condition = {"any": [{"eq": [A, str(number)]} for number in range(333)]}
    parse(condition, SCHEMAS["document"], Limits(bytes=10**6))
    assert refusal({"any": [condition]}, limits=Limits(bytes=10**6)).code == TOO_COMPLEX


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("resource.labels.a")),
        lambda inside: st.one_of(
            st.lists(inside, max_size=3),
            st.dictionaries(
                st.sampled_from(["all", "any", "not", "eq", "in", "exists", "matches", "time_between", "ip_in", "var", "start", "x"]),
                inside,
                max_size=2,
            ),
        ),
    )
)
def test_whatever_json_comes_is_a_condition_or_refused(condition: Any) -> None:
    try:
        parse(condition, SCHEMAS["document"], Limits())
    except PolicyError as error:
        assert error.path.startswith("$") and error.message


def test_a_policy_is_about_a_known_type_and_action() -> None:
    types, actions = frozenset({"document"}), frozenset({"read"})
    for resource_type, action in (("document", "read"), ("*", "read"), ("document", "*")):
        check_target(resource_type, action, types, actions, allow_wildcards=False)
    check_target("*", "*", types, actions, allow_wildcards=True)
    for resource_type, action, path in (
        ("documents", "read", "resource_type"),
        ("document", "Read", "action"),
        ("", "read", "resource_type"),
        ("*", "*", "resource_type"),
    ):
        with pytest.raises(PolicyError) as caught:
            check_target(resource_type, action, types, actions, allow_wildcards=False)
        assert (caught.value.code, caught.value.path) == (INVALID, path)


def test_constants_are_equal_as_policies_compare_them() -> None:
    """Else one policy would stand for another that only looks alike."""
    alike: list[tuple[Any, Any]] = [(1, 1.0), ((1, "a"), (1.0, "a")), ("", ""), (True, True), (parse_pattern("a"), parse_pattern("a"))]
    for one, other in alike:
        assert Const(one) == Const(other)
        assert hash(Const(one)) == hash(Const(other))
    unlike: list[tuple[Any, Any]] = [
        (1, True),
        (0, False),
        (1, "1"),
        (("a", 1), ("a", True)),
        ("a", ("a",)),
        ("a", "b"),
        (parse_pattern("a"), parse_pattern("b")),
    ]
    for one, other in unlike:
        assert Const(one) != Const(other)
    assert Const("a") != "a"


@pytest.mark.parametrize(
    "condition",
    [{"exists": A}, {"eq": [A, "a"]}, {"not": {"exists": A}}, {"all": [{"exists": A}, {"eq": [A, 1]}]}, {"any": [{"exists": A}]}],
)
def test_nodes_are_equal_wherever_they_stand(condition: Any) -> None:
    below = parse({"not": condition}, SCHEMAS["document"], Limits())
    assert isinstance(below, Not)
    assert below.node == parse(condition, SCHEMAS["document"], Limits())
    assert Unknown("$.not") == UNKNOWN


def test_a_node_that_nobody_wrote_stands_at_the_root() -> None:
    assert {node.path for node in (ALWAYS, UNKNOWN, Not(UNKNOWN), Comparison("among", ()))} == {"$"}
