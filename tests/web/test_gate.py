"""A gate demands what its author wrote, and no less where they wrote nothing."""

from dataclasses import fields
from typing import Any

import pytest

from nexusrag.kernel.actions import Action, Permission, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.kernel.principal import PERSONAL, Credential
from nexusrag.kernel.switches import Switch
from nexusrag.kernel.traffic import RouteClass
from nexusrag.web.gate import Gate, gate, public

GIVEN: dict[str, Any] = {
    "at": "body", "permission": Permission.READ, "feature": Feature.TTS, "credentials": frozenset({Credential.SCIM}), "operator": True,
    "reach": "operators", "audit": EventType.CORPORA_CREATED, "shown_once": "token", "bulkhead": "run", "rate": RouteClass.READ,
    "units": 3, "switch": Switch.INGEST, "keyed": True, "despite_freeze": True, "idempotent": False, "legacy": True, "enveloped": False,
    "transaction": False,
}  # fmt: skip
USUAL: dict[str, Any] = {
    "at": "path", "permission": None, "feature": None, "credentials": PERSONAL, "operator": False, "reach": "own", "audit": None,
    "shown_once": None, "bulkhead": None, "rate": None, "units": 1, "switch": None, "keyed": False, "despite_freeze": False,
    "idempotent": True,
    "legacy": False, "enveloped": True, "transaction": True,
}  # fmt: skip


def test_every_demand_has_a_usual_value() -> None:
    assert {field.name for field in fields(Gate)} - {"action", "on", "reason", "probed"} == set(GIVEN) == set(USUAL)


@pytest.mark.parametrize("name", GIVEN)
def test_a_demand_is_what_was_written_and_the_others_are_as_usual(name: str) -> None:
    made = gate(Action.CORPORA_READ, Resource.CORPUS, **{name: GIVEN[name]})
    assert (made.action, made.on, made.reason, made.is_public) == (Action.CORPORA_READ, Resource.CORPUS, "", False)
    assert {demand: getattr(made, demand) for demand in USUAL} == USUAL | {name: GIVEN[name]}
    assert gate(Action.CORPORA_READ).on is None


@pytest.mark.parametrize(("legacy", "enveloped"), [(False, True), (True, False)])
def test_a_public_gate_lets_everyone_in_and_writes_nothing(legacy: bool, enveloped: bool) -> None:
    made = public("all may know", legacy=legacy, enveloped=enveloped)
    assert (made.action, made.on, made.reason, made.is_public) == (None, None, "all may know", True)
    expected = USUAL | {"idempotent": False, "transaction": False, "units": 0, "legacy": legacy, "enveloped": enveloped}
    assert {demand: getattr(made, demand) for demand in USUAL} == expected
    plain = public("all may know")
    assert (plain.legacy, plain.enveloped, plain.despite_freeze, plain.probed) == (False, True, False, False)
    assert (public("a login", despite_freeze=True).despite_freeze, public("alive", probed=True).probed) == (True, True)


def test_a_gate_that_says_nothing_is_the_usual_one() -> None:
    made = Gate(action=Action.CORPORA_READ)
    assert {demand: getattr(made, demand) for demand in USUAL} == USUAL
    assert (made.on, made.reason) == (None, "")


def test_a_public_gate_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="reason"):
        public("")
