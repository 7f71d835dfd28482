"""PATCH as it is spoken: what a person's document is after each request, and why others are refused. No database is needed for that."""

import copy
from typing import Any

import pytest

from nexusrag.identity.scim.documents import demand_whole
from nexusrag.identity.scim.patch import applied, operations_of
from nexusrag.identity.scim.schema import USER
from nexusrag.kernel.errors import ApiError
from tests.identity.scim.client import CORE, ENTERPRISE, MESSAGES

ADA: dict[str, Any] = {
    "userName": "ada",
    "active": True,
    "displayName": "Ada",
    "title": "Countess",
    "externalId": "e1",
    "name": {"givenName": "Ada", "familyName": "Lovelace"},
    "emails": [{"type": "work", "value": "ada@work", "primary": True}, {"type": "home", "value": "ada@home"}],
    ENTERPRISE: {"department": "Engines", "manager": {"value": "m1"}},
}
WORK, HOME = ADA["emails"]
OTHER = {"type": "other", "value": "ada@other"}


def op(word: str, path: str | None = None, value: Any = ..., **more: Any) -> dict[str, Any]:
    return {"op": word, **({} if path is None else {"path": path}), **({} if value is ... else {"value": value}), **more}


def patched(*operations: Any) -> dict[str, Any]:
    before = copy.deepcopy(ADA)
    document = applied(ADA, operations_of(USER, {"schemas": [f"{MESSAGES}PatchOp"], "Operations": list(operations)}))
    demand_whole(USER, document)
    assert before == ADA
    return document


def changed(*operations: Any) -> dict[str, Any]:
    """What is another than before; None for what is gone."""
    document = patched(*operations)
    return {name: document.get(name) for name in ADA.keys() | document.keys() if ADA.get(name) != document.get(name)}


CHANGES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    # as the RFC has it
    "add a text": ([op("add", "nickName", "Countess")], {"nickName": "Countess"}),
    "add in place of a text": ([op("add", "title", "Dr")], {"title": "Dr"}),
    "replace a text": ([op("replace", "title", "Dr")], {"title": "Dr"}),
    "replace what is not there": ([op("replace", "nickName", "A")], {"nickName": "A"}),
    "remove a text": ([op("remove", "title")], {"title": None}),
    "remove what is not there": ([op("remove", "nickName")], {}),
    "add the same": ([op("add", "title", "Countess"), op("replace", "active", True)], {}),
    "replace with null": ([op("replace", "title", None)], {"title": None}),
    "add part of a name": ([op("add", "name", {"middleName": "K"})], {"name": {**ADA["name"], "middleName": "K"}}),
    "replace part of a name": ([op("replace", "name", {"givenName": "A"})], {"name": {"givenName": "A", "familyName": "Lovelace"}}),
    "replace by dotted path": ([op("replace", "name.givenName", "A")], {"name": {"givenName": "A", "familyName": "Lovelace"}}),
    "clear part of a name": ([op("replace", "name", {"givenName": None})], {"name": {"familyName": "Lovelace"}}),
    "remove part of a name": ([op("remove", "name.givenName")], {"name": {"familyName": "Lovelace"}}),
    "remove all parts of a name": ([op("remove", "name.givenName"), op("remove", "name.familyName")], {"name": None}),
    "remove a name": ([op("remove", "name")], {"name": None}),
    "add an address": ([op("add", "emails", [OTHER])], {"emails": [WORK, HOME, OTHER]}),
    "add an address that is there": ([op("add", "emails", [HOME])], {}),
    "add one address, not in a list": ([op("add", "emails", OTHER)], {"emails": [WORK, HOME, OTHER]}),
    "add another primary address": (
        [op("add", "emails", [{**OTHER, "primary": True}])],
        {"emails": [{**WORK, "primary": False}, HOME, {**OTHER, "primary": True}]},
    ),
    "replace all addresses": ([op("replace", "emails", [OTHER])], {"emails": [OTHER]}),
    "replace all addresses with none": ([op("replace", "emails", [])], {"emails": None}),
    "remove all addresses": ([op("remove", "emails")], {"emails": None}),
    "remove selected addresses": ([op("remove", 'emails[type eq "home"]')], {"emails": [WORK]}),
    "remove a part of selected addresses": (
        [op("remove", 'emails[type eq "work"].primary')],
        {"emails": [{"type": "work", "value": "ada@work"}, HOME]},
    ),
    "replace selected addresses": ([op("replace", 'emails[type eq "home"]', OTHER)], {"emails": [WORK, OTHER]}),
    "add to selected addresses": ([op("add", 'emails[type eq "home"]', {"display": "d"})], {"emails": [WORK, {**HOME, "display": "d"}]}),
    "replace a part of selected addresses": (
        [op("replace", 'emails[type eq "home"].value', "x")],
        {"emails": [WORK, {**HOME, "value": "x"}]},
    ),
    "select by more than equality": (
        [op("replace", 'emails[value ew "home" and not (primary pr)].type', "x")],
        {"emails": [WORK, {**HOME, "type": "x"}]},
    ),
    "make another address the primary one": (
        [op("replace", 'emails[type eq "home"].primary', True)],
        {"emails": [{**WORK, "primary": False}, {**HOME, "primary": True}]},
    ),
    "change a part of all addresses": (
        [op("replace", "emails.display", "d")],
        {"emails": [{**WORK, "display": "d"}, {**HOME, "display": "d"}]},
    ),
    "remove a part of all addresses": (
        [op("remove", "emails.type")],
        {"emails": [{"value": "ada@work", "primary": True}, {"value": "ada@home"}]},
    ),
    "add a part where there is no value": ([op("add", "phoneNumbers.value", "1")], {"phoneNumbers": [{"value": "1"}]}),
    "a path under its URN": ([op("replace", f"{CORE}User:title", "Dr")], {"title": "Dr"}),
    "a path into an extension": ([op("replace", f"{ENTERPRISE}:department", "X")], {ENTERPRISE: {**ADA[ENTERPRISE], "department": "X"}}),
    "a path to a part in an extension": (
        [op("replace", f"{ENTERPRISE}:manager.value", "m2")],
        {ENTERPRISE: {**ADA[ENTERPRISE], "manager": {"value": "m2"}}},
    ),
    "part of an extension": ([op("add", ENTERPRISE, {"division": "D"})], {ENTERPRISE: {**ADA[ENTERPRISE], "division": "D"}}),
    "remove an extension": ([op("remove", ENTERPRISE)], {ENTERPRISE: None}),
    "remove a part of an extension": ([op("remove", f"{ENTERPRISE}:manager")], {ENTERPRISE: {"department": "Engines"}}),
    "attributes without a path": ([op("add", None, {"title": "Dr", "nickName": "A"})], {"title": "Dr", "nickName": "A"}),
    "lists without a path": ([op("add", None, {"emails": [OTHER]})], {"emails": [WORK, HOME, OTHER]}),
    "replace lists without a path": ([op("replace", None, {"emails": [OTHER]})], {"emails": [OTHER]}),
    "an extension without a path": (
        [op("replace", None, {ENTERPRISE: {"department": "X"}})],
        {ENTERPRISE: {**ADA[ENTERPRISE], "department": "X"}},
    ),
    "one after the other": (
        [op("remove", "emails"), op("add", "emails", [OTHER]), op("replace", 'emails[type eq "other"].value', "x")],
        {"emails": [{**OTHER, "value": "x"}]},
    ),
    "no operation": ([], {}),
    "names in any case": ([{"OP": "Replace", "PATH": "TITLE", "Value": "Dr"}], {"title": "Dr"}),
    "unknown names without a path": ([op("add", None, {"shoeSize": 7, "title": "Dr"})], {"title": "Dr"}),
    "unknown parts": ([op("add", "name", {"shoeSize": 7})], {}),
    # Entra
    "Entra: words with a capital letter": (
        [op("Replace", "title", "Dr"), op("Add", "nickName", "A"), op("Remove", "displayName")],
        {"title": "Dr", "nickName": "A", "displayName": None},
    ),
    "Entra: truth as a text": ([op("Replace", "active", "False")], {"active": False}),
    "Entra: truth as another text": ([op("Replace", "active", "FALSE"), op("Replace", "active", "true")], {}),
    "Entra: truth as a text without a path": ([op("replace", None, {"active": "False"})], {"active": False}),
    "Entra: dotted names without a path": (
        [op("Add", None, {"name.givenName": "A", f"{ENTERPRISE}:department": "X"})],
        {"name": {"givenName": "A", "familyName": "Lovelace"}, ENTERPRISE: {**ADA[ENTERPRISE], "department": "X"}},
    ),
    "Entra: selections without a path": (
        [op("Replace", None, {'emails[type eq "work"].value': "x"})],
        {"emails": [{**WORK, "value": "x"}, HOME]},
    ),
    "Entra: an address of a type that is not there": (
        [op("Add", 'phoneNumbers[type eq "mobile"].value', "1")],
        {"phoneNumbers": [{"type": "mobile", "value": "1"}]},
    ),
    "Entra: the same as a replacement": (
        [op("Replace", 'emails[type eq "other"].value', "x")],
        {"emails": [WORK, HOME, {"type": "other", "value": "x"}]},
    ),
    "Entra: made with all that the path says": (
        [op("Add", 'addresses[type eq "work" and primary eq true].locality', "L")],
        {"addresses": [{"type": "work", "primary": True, "locality": "L"}]},
    ),
    "Entra: a manager as a text": (
        [op("Add", f"{ENTERPRISE}:manager", "m2")],
        {ENTERPRISE: {**ADA[ENTERPRISE], "manager": {"value": "m2"}}},
    ),
    "Entra: a manager in a list": (
        [op("Replace", f"{ENTERPRISE}:manager", [{"value": "m2"}])],
        {ENTERPRISE: {**ADA[ENTERPRISE], "manager": {"value": "m2"}}},
    ),
    "Entra: take values away by naming them": ([op("Remove", "emails", [{"value": "ada@home"}])], {"emails": [WORK]}),
    "Entra: take no value away": ([op("Remove", "emails", [])], {}),
    "Entra: a role for each": (
        [op("Add", "roles", [{"value": '{"id":"1"}', "primary": "True"}])],
        {"roles": [{"value": '{"id":"1"}', "primary": True}]},
    ),
    "Entra: a plain text for a list": ([op("Add", "emails", "x")], {"emails": [WORK, HOME, {"value": "x"}]}),
    # Okta
    "Okta: switched off": ([op("replace", None, {"active": False})], {"active": False}),
    "Okta: with the id beside": (
        [op("replace", None, {"id": "usr_x", "title": "Dr", "schemas": [], "meta": {}, "groups": []})],
        {"title": "Dr"},
    ),
    "Okta: an empty path": ([op("replace", "", {"active": False})], {"active": False}),
    "Okta: a null path": ([{"op": "replace", "path": None, "value": {"active": False}}], {"active": False}),
}

REFUSALS: dict[str, tuple[Any, str]] = {
    "no operations": ({}, "invalidSyntax"),
    "operations that are none": ({"Operations": "x"}, "invalidSyntax"),
    "an operation that is none": ({"Operations": ["x"]}, "invalidSyntax"),
    "another schema": ({"schemas": ["x"], "Operations": []}, "invalidSyntax"),
    "the same field twice": ({"Operations": [], "operations": []}, "invalidSyntax"),
    "too many": ([op("remove", "title")] * 1001, "invalidSyntax"),
    "an unknown word": ([op("move", "title", "x")], "invalidSyntax"),
    "no word": ([{"path": "title", "value": "x"}], "invalidSyntax"),
    "a word that is none": ([op(7, "title", "x")], "invalidSyntax"),  # type: ignore[arg-type]
    "a path that is none": ([{"op": "add", "path": 7, "value": "x"}], "invalidPath"),
    "an unknown path": ([op("add", "shoeSize", 7)], "invalidPath"),
    "an unknown part": ([op("add", "name.shoeSize", 7)], "invalidPath"),
    "an unknown URN": ([op("add", "urn:x:User:title", "x")], "invalidPath"),
    "half a path": ([op("add", "name.", "x")], "invalidPath"),
    "a path of blanks": ([op("add", " ", "x")], "invalidPath"),
    "a path with a blank": ([op("add", "na me", "x")], "invalidPath"),
    "a part too deep": ([op("add", "name.givenName.x", "x")], "invalidPath"),
    "an unknown part of a selection": ([op("add", 'emails[type eq "work"].shoe', "x")], "invalidPath"),
    "a selection from what is no list": ([op("add", 'name[givenName eq "x"].givenName', "x")], "invalidPath"),
    "something after a selection": ([op("add", 'emails[type eq "work"]x', "x")], "invalidPath"),
    "a selection that is not closed": ([op("add", 'emails[type eq "work"', "x")], "invalidFilter"),
    "a selection by an unknown part": ([op("add", 'emails[shoe eq "work"].value', "x")], "invalidFilter"),
    "a selection inside a selection": ([op("add", 'emails[type[x eq "y"] eq "work"].value', "x")], "invalidFilter"),
    "the wrong type in a selection": ([op("remove", "emails[type eq 5]")], "invalidFilter"),
    "a value that is missing": ([op("add", "title")], "invalidValue"),
    "a text that is none": ([op("replace", "title", 7)], "invalidValue"),
    "truth that is none": ([op("replace", "active", "maybe")], "invalidValue"),
    "truth as a number": ([op("replace", "active", 0)], "invalidValue"),
    "a list for a text": ([op("replace", "title", ["a", "b"])], "invalidValue"),
    "an object for a text": ([op("replace", "title", {"a": 1})], "invalidValue"),
    "a text for a name": ([op("replace", "name", "Ada")], "invalidValue"),
    "a number in a list": ([op("add", "emails", [7])], "invalidValue"),
    "two primary addresses": (
        [op("replace", "emails", [{"value": "a", "primary": True}, {"value": "b", "primary": True}])],
        "invalidValue",
    ),
    "all addresses primary": ([op("replace", "emails.primary", True)], "invalidValue"),
    "a value without a path": ([op("replace", None, "x")], "invalidValue"),
    "a list without a path": ([op("add", None, [])], "invalidValue"),
    "no userName": ([op("replace", "userName", "")], "invalidValue"),
    "a null userName": ([op("replace", "userName", None)], "invalidValue"),
    "a userName with an ambiguous letter": ([op("replace", "userName", "\u0130vo")], "invalidValue"),
    "what is no base64": ([op("add", "x509Certificates", [{"value": "*"}])], "invalidValue"),
    "more values than anybody has": ([op("add", "emails", [{"value": str(number)} for number in range(201)])], "invalidValue"),
    "nothing to select": ([op("remove", 'emails[type eq "fax"]')], "noTarget"),
    "remove without a path": ([op("remove")], "noTarget"),
    "nothing to change, and nothing to make": ([op("replace", 'emails[type ne "x" and value eq "y"].value', "z")], "noTarget"),
    "nothing to change among alternatives": ([op("add", 'emails[type eq "fax" or type eq "x"].value', "z")], "noTarget"),
    "the id": ([op("replace", "id", "x")], "mutability"),
    "meta": ([op("add", "meta.created", "x")], "mutability"),
    "schemas": ([op("remove", "schemas")], "mutability"),
    "groups": ([op("add", "groups", [{"value": "g"}])], "mutability"),
    "groups by selection": ([op("remove", 'groups[value eq "g"]')], "mutability"),
    "removing userName": ([op("remove", "userName")], "mutability"),
    "removing active": ([op("remove", "active")], "mutability"),
    "the third of five": (
        [
            op("replace", "title", "x"),
            op("remove", "name"),
            op("replace", "active", "maybe"),
            op("remove", "emails"),
            op("add", "title", "y"),
        ],
        "invalidValue",
    ),
}


@pytest.mark.parametrize(("operations", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_a_request_changes(operations: list[Any], expected: dict[str, Any]) -> None:
    assert changed(*operations) == expected


@pytest.mark.parametrize(("body", "scim_type"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_request_is_refused(body: Any, scim_type: str) -> None:
    with pytest.raises(ApiError) as refused:
        demand_whole(USER, applied(ADA, operations_of(USER, body if isinstance(body, dict) else {"Operations": body})))
    assert refused.value.details == {"scimType": scim_type}


MANY = [{"value": str(number)} for number in range(200)]


@pytest.mark.parametrize(
    "costly",
    [
        op("replace", f"emails[{' and '.join(['value pr'] * 50)}].display", "x"),
        op("add", "emails", MANY),
        op("remove", "emails", [{"value": f"no {number}"} for number in range(200)]),
    ],
    ids=["select", "add", "remove"],
)
def test_the_cost_of_comparisons_is_bounded(costly: dict[str, Any]) -> None:
    """Each operation is cheap; a hundred of them over long lists are not carried out."""
    many = op("add", "emails", MANY)
    assert applied({"userName": "a"}, operations_of(USER, {"Operations": [many, costly]}))
    with pytest.raises(ApiError) as refused:
        applied({"userName": "a"}, operations_of(USER, {"Operations": [many, *[costly] * 100]}))
    assert refused.value.details == {"scimType": "tooMany"}
