"""What is no condition: refused with its place and a remedy."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexusrag.access.policies.attributes import SCHEMAS, schema_of
from nexusrag.access.policies.language import INVALID, TOO_COMPLEX, Limits, PolicyError, check_target, parse

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
        ("corpus", "visibility"),
        ("run", "session_id"),
        ("audio", "id"),
        ("*", "labels.a"),
        ("*", "session_id"),
        ("*", "visibility"),
    ],
)
def test_names_of_the_type_are_understood(resource_type: str, name: str) -> None:
    parse({"exists": {"var": f"resource.{name}"}}, schema_of(resource_type), Limits())


def test_a_type_has_its_own_names_only() -> None:
    assert refusal({"exists": {"var": "resource.labels.a"}}, "corpus").path == "$.exists.var"
    assert refusal({"exists": {"var": "resource.owner"}}, "audio").path == "$.exists.var"


def nested(depth: int) -> dict[str, Any]:
    condition: dict[str, Any] = {"exists": A}
    for _ in range(depth - 1):
        condition = {"not": condition}
    return condition


def test_depth_counts_operators() -> None:
    parse(nested(8), SCHEMAS["document"], Limits())
    error = refusal(nested(9))
    assert (error.code, error.path) == (TOO_COMPLEX, "$" + ".not" * 8)


@pytest.mark.parametrize("depth", [33, 500, 100_000])
def test_depth_without_end_is_refused(depth: int) -> None:
    assert refusal(nested(depth), limits=Limits(bytes=10**9)).code == TOO_COMPLEX


def test_size_counts_bytes_of_compact_json() -> None:
    condition = {"eq": [A, "ä" * 100]}
    size = len(json.dumps(condition, ensure_ascii=False, separators=(",", ":")).encode())
    parse(condition, SCHEMAS["document"], Limits(bytes=size))
    assert refusal(condition, limits=Limits(bytes=size - 1)).code == TOO_COMPLEX


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
