"""All policies of a tenant together: what they say of one resource, of the rows of a table, and why."""

import json
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.decide import Decision, Effect, Policy, PolicySet, Residual, read_policy
from nexusrag.access.policies.evaluate import compiled
from nexusrag.access.policies.index import Index
from nexusrag.access.policies.language import TOO_COMPLEX, Limits
from tests.access.policies import conditions as chance

found_by_chance = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def policy(
    policy_id: str,
    effect: Effect = "allow",
    condition: Any = None,
    *,
    resource_type: str = "document",
    action: str = "read",
    priority: int = 100,
) -> Policy:
    read = read_policy(policy_id, effect, resource_type, action, priority, condition, chance.LIMITS)
    assert read.fault is None
    return read


def labelled(**labels: Any) -> Attributes:
    return Attributes({"id": "u", "role": "editor"}, {"time": "2026-01-05T12:00:00Z"}, {"labels": labels})


def is_(name: str, value: Any) -> dict[str, Any]:
    return {"eq": [{"var": f"resource.labels.{name}"}, value]}


def said(policies: list[Policy], attributes: Attributes, resource_type: str = "document", action: str = "read") -> tuple[Any, Any]:
    decision = PolicySet(policies).decide(resource_type, action, attributes)
    return decision.denied_by, decision.allowed_by


def test_without_a_policy_nothing_is_said() -> None:
    assert PolicySet([]).decide("document", "read", labelled()) == Decision(None, None)


def test_a_denying_policy_wins_whatever_its_priority() -> None:
    policies = [policy("allow", priority=900), policy("deny", "deny", priority=-5)]
    assert said(policies, labelled()) == ("deny", None)


def test_the_policy_of_the_highest_priority_is_named_and_ids_decide_between_equals() -> None:
    policies = [policy("c", priority=1), policy("b", priority=2), policy("a", priority=2), policy("d", condition=is_("x", 1), priority=9)]
    assert said(policies, labelled()) == (None, "a")
    assert said(policies, labelled(x=1)) == (None, "d")


def test_what_is_unknown_denies_and_never_allows() -> None:
    assert said([policy("a", "allow", is_("x", "1"))], labelled()) == (None, None)
    assert said([policy("d", "deny", is_("x", "1"))], labelled()) == ("d", None)
    assert said([policy("d", "deny", is_("x", "1"))], labelled(x=1)) == ("d", None)
    guarded = {"all": [{"exists": {"var": "resource.labels.x"}}, is_("x", "1")]}
    assert said([policy("d", "deny", guarded)], labelled()) == (None, None)


def test_one_name_may_hold_a_list_or_a_text() -> None:
    policies = [policy("p", condition={"contains": [{"var": "resource.labels.x"}, "b"]})]
    assert said(policies, labelled(x=["b"])) == said(policies, labelled(x="abc")) == (None, "p")
    assert said(policies, labelled(x=["abc"])) == said(policies, labelled(x="c")) == (None, None)


def test_type_and_action_are_exact_or_a_wildcard() -> None:
    policies = [
        policy("type", resource_type="corpus"),
        policy("action", action="delete"),
        policy("any type", resource_type="*", priority=1),
        policy("any action", action="*", priority=2),
    ]
    assert said(policies, labelled()) == (None, "any action")
    assert said(policies, labelled(), "run") == (None, "any type")
    assert said(policies, labelled(), "corpus") == (None, "type")
    assert said(policies, labelled(), "document", "delete") == (None, "action")
    assert said(policies, labelled(), "run", "delete") == (None, None)


def test_a_stored_policy_that_cannot_be_read_goes_on_denying_and_no_longer_allows() -> None:
    broken = [read_policy(effect, effect, "document", "read", 1, {"eq": []}, Limits(bytes=3)) for effect in ("allow", "deny")]
    assert all(each.fault is not None and each.fault.code == TOO_COMPLEX for each in broken)
    assert said(broken[:1], labelled()) == (None, None)
    assert said(broken[1:], labelled()) == ("deny", None)


def test_an_explanation_names_all_that_apply_and_every_step() -> None:
    policies = [
        policy("deny", "deny", is_("secret", True), priority=1),
        policy("all", priority=3),
        policy("other", condition=is_("x", 2), priority=2),
    ]
    decision = PolicySet(policies).explain("document", "read", labelled(x=1))
    assert (decision.denied_by, decision.allowed_by, decision.matched) == ("deny", None, ("all", "deny"))
    assert [(entry["policy_id"], entry["outcome"], entry["applies"]) for entry in decision.trace] == [
        ("all", "true", True),
        ("other", "false", False),
        ("deny", "unknown", True),
    ]
    assert json.loads(json.dumps(decision.trace[2])) == {
        "policy_id": "deny",
        "effect": "deny",
        "outcome": "unknown",
        "applies": True,
        "steps": [{"path": "$.eq", "op": "eq", "outcome": "unknown", "reason": "missing resource.labels.secret"}],
    }


X, Y = {"var": "resource.labels.x"}, {"var": "resource.labels.y"}
# The index finds these by the value that they demand. One that asks whether a text contains another demands none.
FOUND: list[dict[str, Any]] = [
    *({"eq": [X, value]} for value in ("a", "b", "ab", "string", 1, 2.5, True)), {"eq": ["a", X]}, {"eq": [False, X]},
    {"in": [X, ["a", 1]]}, {"in": [X, ["c", True]]}, {"in": ["a", X]}, {"in": [1, X]},
    {"contains": [X, "a"]}, {"contains": [X, "b"]}, {"contains": [X, 1]},
    {"starts_with": [X, "a"]}, {"starts_with": [X, "ab"]}, {"starts_with": [X, ""]},
]  # fmt: skip
# It has to look at these each time.
ALWAYS_ASKED: list[dict[str, Any]] = [
    {"ne": [X, "a"]}, {"not": {"eq": [X, "a"]}}, {"exists": X}, {"gt": [X, "a"]}, {"matches": [X, "a"]}, {"eq": [X, Y]}, {"in": [X, Y]},
    {"contains": [["a", "b"], X]}, {"contains": ["abc", X]}, {"contains": [X, Y]}, {"starts_with": ["abc", X]}, {"starts_with": [X, Y]},
    {"any": [{"eq": [X, "a"]}, {"ne": [X, "b"]}]},
]  # fmt: skip
VALUES = ["a", "b", "ab", "abc", "c", "", "string", 1, 1.0, 2, 2.5, True, False, None, ["a"], ["b", 1.0, None, {}], [True], [], {"a": 1}]


def candidates(given: list[Any], attributes: Attributes, denies: bool, known: set[str] | None = None) -> list[int]:
    return Index([chance.read(each) for each in given], unknown_counts=denies).candidates(attributes, known)


@pytest.mark.parametrize("denies", [False, True])
@pytest.mark.parametrize("value", VALUES)
def test_the_index_finds_exactly_the_comparisons_that_count(value: Any, denies: bool) -> None:
    attributes = labelled(x=value)
    every = [*ALWAYS_ASKED, *FOUND]
    counting = []
    for place, each in enumerate(every):
        outcome = compiled(chance.read(each))(attributes)
        if each in ALWAYS_ASKED or outcome is True or (denies and outcome is None) or ("contains" in each and isinstance(value, str)):
            counting.append(place)
    assert candidates(every, attributes, denies) == counting


def test_what_many_conditions_share_is_not_what_finds_them() -> None:
    """Wherever the rare one stands: before or behind it, or deeper."""
    several = [
        shape
        for number in range(30)
        for rare in [is_("y", f"y{number}")]
        for shape in (
            {"all": [is_("x", "a"), rare]},
            {"all": [rare, is_("x", "a")]},
            {"all": [{"all": [{"in": [X, ["a", "b"]]}]}, {"any": [rare, is_("z", number)]}]},
            {"all": [{"exists": X}, {"not": is_("x", "b")}, {"all": [is_("x", "a"), rare]}]},
            {"any": [{"all": [is_("x", "a"), rare]}, is_("z", number)]},
        )
    ]
    assert candidates(several, labelled(x="a", y="y7"), denies=False) == list(range(35, 40))
    assert candidates(several, labelled(x="a", z=8, y="none"), denies=False) == [42, 44]
    assert candidates(several, labelled(x="a"), denies=False) == []


def test_of_callers_alone_the_index_leaves_out_what_they_do_not_meet() -> None:
    role = {"var": "principal.role"}
    several = [
        {"eq": [role, "editor"]},
        is_("x", "a"),
        {"eq": [role, "reader"]},
        {"exists": X},
        {"all": [is_("x", "b"), {"eq": [role, "admin"]}]},
    ]
    assert candidates(several, labelled(x="b"), denies=False, known={"principal"}) == [0, 1, 3, 4]
    assert candidates(several, labelled(x="b"), denies=False) == [0, 3, 4]
    assert candidates([several[2]], labelled(), denies=False, known={"principal"}) == []


# Most share few comparisons, so that the index has something to tell apart.
_demanding = st.one_of(
    st.tuples(chance.variables, chance.scalars).map(lambda both: {"eq": list(both)}),
    st.tuples(chance.variables, chance.lists).map(lambda both: {"in": list(both)}),
    st.tuples(chance.scalars, chance.variables).map(lambda both: {"in": list(both)}),
    st.tuples(chance.variables, chance.scalars).map(lambda both: {"contains": list(both)}),
    st.tuples(chance.variables, st.sampled_from(chance.TEXTS)).map(lambda both: {"starts_with": list(both)}),
)
_conditions = st.one_of(
    st.none(),
    _demanding,
    chance.conditions,
    st.lists(st.one_of(_demanding, chance.conditions), min_size=1, max_size=3).map(lambda c: {"all": c}),
)
_policies = st.lists(
    st.tuples(st.sampled_from(["allow", "deny"]), _conditions, st.sampled_from(["document", "*"]), st.integers(1, 3)), max_size=6
).map(
    lambda given: [
        read_policy(f"p{place}", effect, kind, "read", priority, condition, chance.LIMITS)
        for place, (effect, condition, kind, priority) in enumerate(given)
    ]
)


def naively(policies: list[Policy], attributes: Attributes) -> tuple[list[str], list[str]]:
    """Ids of all that deny and of all that allow, by priority."""
    ordered = sorted(policies, key=lambda each: (-each.priority, each.id))
    applying = [each for each in ordered if each.applies(compiled(each.condition)(attributes))]
    return [each.id for each in applying if each.effect == "deny"], [each.id for each in applying if each.effect == "allow"]


@pytest.mark.slow
@found_by_chance
@given(policies=_policies, principal=chance.principals, request_=chance.requests, rows=st.lists(chance.documents, min_size=1, max_size=5))
def test_the_index_leaves_out_only_what_does_not_apply(policies: list[Policy], principal: Any, request_: Any, rows: list[Any]) -> None:
    every = PolicySet(policies)
    for row in rows:
        attributes = Attributes(principal, request_, row)
        denying, allowing = naively(policies, attributes)
        decision, explained = every.decide("document", "read", attributes), every.explain("document", "read", attributes)
        assert decision.denied_by == (denying[0] if denying else None)
        assert decision.allowed_by == (allowing[0] if allowing and not denying else None)
        assert (explained.denied_by, explained.allowed_by) == (decision.denied_by, decision.allowed_by)
        assert sorted(explained.matched) == sorted(denying + allowing)


@pytest.mark.slow
@found_by_chance
@given(
    policies=_policies,
    callers=st.lists(st.tuples(chance.principals, chance.requests), min_size=1, max_size=3),
    rows=st.lists(chance.documents, min_size=1, max_size=6),
)
async def test_rows_are_judged_in_the_database_as_one_by_one(
    database: "asyncpg.Connection[Any]", policies: list[Policy], callers: list[Any], rows: list[Any]
) -> None:
    every = PolicySet(policies)
    for principal, request_ in callers:  # one after the other: what is kept for one caller must not serve another
        rest = every.residual("document", "read", Attributes(principal, request_), chance.COLUMNS)
        expected = [naively(policies, Attributes(principal, request_, row)) for row in rows]
        for place, answer in enumerate((rest.deny, rest.allow)):
            found = [answer] * len(rows) if isinstance(answer, bool) else await chance.in_sql(database, answer, rest.values, rows)
            assert found == [bool(ids[place]) for ids in expected]


def test_a_residual_for_callers_alike_is_worked_out_once() -> None:
    every = PolicySet([policy("p", condition={"all": [{"eq": [{"var": "principal.role"}, "editor"]}, is_("x", 1)]})])
    first = every.residual("document", "read", Attributes({"role": "editor", "id": "a"}, {}), chance.COLUMNS)
    again = every.residual("document", "read", Attributes({"role": "editor", "id": "b"}, {}), chance.COLUMNS)
    other = every.residual("document", "read", Attributes({"role": "reader", "id": "a"}, {}), chance.COLUMNS)
    assert again is first
    assert isinstance(first.allow, str) and other.allow is False


def test_of_callers_who_differ_the_last_128_are_kept() -> None:
    every = PolicySet([policy("p", condition={"eq": [{"var": "principal.id"}, X]})])
    callers = [Attributes({"id": f"u{number}"}, {}) for number in range(129)]
    first, *others = [every.residual("document", "read", caller, chance.COLUMNS) for caller in callers]
    assert all(every.residual("document", "read", caller, chance.COLUMNS) is rest for caller, rest in zip(callers[1:], others, strict=True))
    again = every.residual("document", "read", callers[0], chance.COLUMNS)
    assert again is not first
    assert again == first


def test_what_no_row_can_change_is_not_asked_of_rows() -> None:
    unknown = {"eq": [{"var": "principal.custom_role"}, "x"]}

    def rest(effect: Effect, condition: Any) -> bool | str:
        found = PolicySet([policy("p", effect, condition)]).residual("document", "read", Attributes({}, {}), chance.COLUMNS)
        return found.deny if effect == "deny" else found.allow

    assert rest("deny", {"any": [is_("x", "a"), unknown]}) is True
    assert rest("deny", {"not": {"all": [is_("x", "a"), unknown]}}) is True
    assert rest("allow", {"all": [is_("x", "a"), unknown]}) is False
    assert rest("allow", {"not": {"any": [is_("x", "a"), unknown]}}) is False
    assert isinstance(rest("deny", {"all": [is_("x", "a"), unknown]}), str)


def test_constants_are_bound_as_one_compact_json_text() -> None:
    every = PolicySet([policy("p", condition={"any": [is_("x", 1.5), {"in": [X, ["ä", True]]}]})])
    assert every.residual("document", "read", Attributes({}, {}), chance.COLUMNS).values == '[1.5,["ä",true]]'
    assert Residual(allow=True, deny=False).values == "[]"


def test_callers_who_differ_in_type_alone_are_not_alike() -> None:
    every = PolicySet([policy("p", condition={"eq": [{"var": "principal.id"}, 1]})])
    assert every.residual("document", "read", Attributes({"id": 1}, {}), chance.COLUMNS).allow is True
    assert every.residual("document", "read", Attributes({"id": True}, {}), chance.COLUMNS).allow is False


def test_the_text_of_a_residual_depends_on_the_shape_of_policies_alone() -> None:
    def text(name: str, value: str) -> bool | str:
        every = PolicySet([policy(name, "deny", {"all": [is_("x", value), {"lt": [{"var": "request.time"}, value]}]})])
        return every.residual("document", "read", Attributes({}, {"time": "2026"}), chance.COLUMNS).deny

    assert text("a", "9' or true --") == text("b", "9")


def test_many_policies_that_compare_one_value_become_one_comparison() -> None:
    every = PolicySet([policy(f"p{number}", "deny", is_("team", f"t{number}")) for number in range(1000)])
    rest = every.residual("document", "read", Attributes({}, {}), chance.COLUMNS)
    assert isinstance(rest.deny, str) and len(rest.deny) < 200
    assert rest.allow is False


async def test_two_residuals_can_stand_in_one_statement(database: "asyncpg.Connection[Any]") -> None:
    every = PolicySet([policy("p", condition=is_("x", "a"))])
    rest = every.residual("document", "read", Attributes({}, {}), chance.COLUMNS, parameter="of_reading")
    assert isinstance(rest.allow, str)
    assert ":of_reading" in rest.allow and ":policy_values" not in rest.allow


def test_patterns_about_rows_are_counted() -> None:
    matches = [{"matches": [{"var": "resource.filename"}, pattern]} for pattern in ("a", "b", "a")]
    of_caller = {"matches": [{"var": "principal.email"}, "c"]}
    conditions = [{"not": matches[0]}, {"any": matches}, of_caller]
    every = PolicySet([policy(str(number), condition=each) for number, each in enumerate(conditions)])
    assert every.patterns("document") == 2
    assert every.patterns("corpus") == 0
    of_all = policy("any", "deny", {"matches": [{"var": "resource.labels.x"}, "d"]}, resource_type="*")
    assert [PolicySet([*every.policies, of_all]).patterns(kind) for kind in ("document", "corpus")] == [3, 1]


def test_conditions_that_differ_in_type_alone_are_different() -> None:
    policies = [policy(str(place), condition=is_("x", value)) for place, value in enumerate([1, True, "1", 1.0])]
    policies += [policy(f"in {place}", condition={"in": [{"var": "resource.labels.x"}, [value]]}) for place, value in enumerate([0, False])]
    assert [said(policies, labelled(x=value))[1] for value in (1, True, "1", 0, False)] == ["0", "1", "2", "in 0", "in 1"]


def test_a_new_set_can_be_made_ready_for_what_the_old_one_was_asked() -> None:
    old, new = PolicySet([policy("p")]), PolicySet([policy("q")])
    old.decide("document", "read", labelled())
    new.prepare(old)
    assert list(new._slices) == [("document", "read")]
    assert new.decide("document", "read", labelled()).allowed_by == "q"
