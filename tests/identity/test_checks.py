"""Whether a credential that exists is good: every way in which it is not, and the code for each."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nexusrag.identity.credentials import checks
from nexusrag.identity.credentials.checks import DEV_CREDENTIAL, actions_of, checked, of_credential, person, still_good, unknown
from nexusrag.kernel import clock
from nexusrag.kernel.actions import ACTIONS_OF, Action, Role
from nexusrag.kernel.errors import ApiError
from nexusrag.kernel.features import FEATURES_OF, PlanId
from nexusrag.kernel.principal import Credential, of_role
from nexusrag.settings.auth import AuthSettings
from tests.identity.test_persons import row as of_person

NOW = datetime.now(UTC)
SOON, PAST = NOW + timedelta(hours=1), NOW - timedelta(milliseconds=1)
SETTINGS = AuthSettings(auth_api_key_inactive_days=90, default_plan="pro")
KINDS = tuple(Credential)
UNKNOWN = {Credential.SCIM: "SCIM_UNAUTHORIZED"}


def row(**changes: Any) -> dict[str, Any]:
    """A good credential of an editor, of whatever kind is asked for."""
    return of_person(
        tenant_status="active", user_status="active", active=True, created_at=NOW, last_used_at=None, expires_at=None, revoked_at=None,
        provider_enabled=True,
    ) | changes  # fmt: skip


def refused(kind: Credential, settings: AuthSettings = SETTINGS, **changes: Any) -> str:
    with pytest.raises(ApiError) as caught:
        checked(row(**changes), kind, settings)
    return caught.value.code.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_one_is_accepted(kind: Credential) -> None:
    made = checked(row(expires_at=SOON), kind, SETTINGS)
    assert (made.tenant_id, made.credential_id, made.credential, made.plan) == ("t1", "key_1", kind, PlanId.PRO)
    assert made.features == FEATURES_OF[PlanId.PRO]
    if kind is Credential.SCIM:  # a client, which is nobody and may provision alone
        assert (made.subject_id, made.role, made.actions) == ("scim:key_1", Role.READER, {Action.SCIM_PROVISION})
        assert made.is_home is checked(row(is_home=False), kind, SETTINGS).is_home
    else:
        assert (made.subject_id, made.actions) == ("usr_1", ACTIONS_OF[Role.EDITOR])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", ["suspended", "Active", ""])
def test_nobody_of_a_tenant_that_is_not_active_is_known(kind: Credential, status: str) -> None:
    assert refused(kind, tenant_status=status) == UNKNOWN.get(kind, "AUTH_UNAUTHORIZED")


@pytest.mark.parametrize("kind", [Credential.API_KEY, Credential.SESSION])
def test_nobody_who_is_disabled_is_known(kind: Credential) -> None:
    assert refused(kind, user_status="disabled") == "AUTH_UNAUTHORIZED"


def test_a_client_does_not_depend_on_a_person() -> None:
    assert checked(row(user_status="disabled"), Credential.SCIM, SETTINGS).credential is Credential.SCIM


@pytest.mark.parametrize(
    ("kind", "changes", "code"),
    [
        (Credential.API_KEY, {"revoked_at": PAST}, "AUTH_REVOKED_KEY"),
        (Credential.API_KEY, {"expires_at": PAST}, "AUTH_EXPIRED_KEY"),
        (Credential.API_KEY, {"active": False}, "AUTH_INACTIVE_KEY"),
        (Credential.API_KEY, {"created_at": NOW - timedelta(days=90, seconds=1)}, "AUTH_INACTIVE_KEY"),
        (Credential.API_KEY, {"last_used_at": NOW - timedelta(days=91)}, "AUTH_INACTIVE_KEY"),
        (Credential.API_KEY, {"revoked_at": PAST, "expires_at": PAST, "active": False}, "AUTH_REVOKED_KEY"),
        (Credential.API_KEY, {"expires_at": PAST, "active": False}, "AUTH_EXPIRED_KEY"),
        (Credential.SESSION, {"revoked_at": PAST}, "AUTH_REVOKED_KEY"),
        (Credential.SESSION, {"provider_enabled": False}, "AUTH_REVOKED_KEY"),
        (Credential.SESSION, {"expires_at": PAST}, "AUTH_EXPIRED_KEY"),
        (Credential.SCIM, {"revoked_at": PAST}, "SCIM_UNAUTHORIZED"),
        (Credential.SCIM, {"expires_at": PAST}, "SCIM_UNAUTHORIZED"),
    ],
)
def test_what_is_no_longer_good_says_why(kind: Credential, changes: dict[str, Any], code: str) -> None:
    assert refused(kind, **changes) == code


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": NOW - timedelta(days=400), "last_used_at": NOW - timedelta(days=1)},
        {"created_at": NOW - timedelta(days=89)},
        {"last_used_at": NOW - timedelta(days=89), "created_at": NOW - timedelta(days=1000)},
    ],
)
def test_a_key_that_is_used_stays_active(changes: dict[str, Any]) -> None:
    assert checked(row(**changes), Credential.API_KEY, SETTINGS).subject_id == "usr_1"


def test_inactivity_may_be_left_unenforced() -> None:
    settings = SETTINGS.model_copy(update={"auth_api_key_inactive_enforced": False})
    assert checked(row(created_at=NOW - timedelta(days=1000)), Credential.API_KEY, settings)
    assert refused(Credential.API_KEY, settings, active=False) == "AUTH_INACTIVE_KEY"


def test_an_unknown_credential_is_refused_in_the_words_of_its_kind() -> None:
    for kind in KINDS:
        assert unknown(kind).code.value == UNKNOWN.get(kind, "AUTH_UNAUTHORIZED")


class Rows:
    """What the repository finds, for one credential and one person of one tenant."""

    tenant_id = "t1"

    def __init__(self, found: dict[str, Any] | None) -> None:
        self.found = found

    async def find_again(self, work: Any, kind: Credential, credential_id: str) -> dict[str, Any] | None:
        assert work is self
        return self.found if credential_id == "key_1" else None

    async def find_person(self, work: Any, user_id: str) -> dict[str, Any] | None:
        """A row about the person alone, without any credential."""
        assert work is self
        named = ("tenant_id", "user_id", "credential_id")
        return {name: value for name, value in (self.found or {}).items() if name not in named} if user_id == "usr_1" else None


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    held = Rows(row())
    monkeypatch.setattr(checks, "repository", held)
    return held


async def test_a_caller_is_asked_for_again_by_their_credential(rows: Any) -> None:
    known = of_role("t1", "usr_1", Role.EDITOR, "key_1")
    assert await still_good(rows, known, SETTINGS) is True
    assert await still_good(rows, of_role("t1", "usr_1", Role.EDITOR, "key_2"), SETTINGS) is False
    found = await of_credential(rows, Credential.API_KEY, "key_1", SETTINGS)
    assert found is not None and found.subject_id == "usr_1"
    assert await of_credential(rows, Credential.API_KEY, "key_2", SETTINGS) is None
    rows.found["revoked_at"] = PAST
    assert await still_good(rows, known, SETTINGS) is False
    assert await of_credential(rows, Credential.API_KEY, "key_1", SETTINGS) is None


async def test_development_has_no_credential_to_ask_for(rows: Any) -> None:
    bypassed = SETTINGS.model_copy(update={"auth_dev_bypass": True})
    caller = of_role("t1", "usr_dev", Role.ADMIN, DEV_CREDENTIAL)
    assert await still_good(rows, caller, bypassed) is True
    assert await still_good(rows, caller, SETTINGS) is False
    assert await still_good(rows, of_role("t1", "usr_1", Role.ADMIN, "key_2"), bypassed) is False


async def test_a_person_is_as_after_a_login(rows: Any) -> None:
    found = await person(rows, "usr_1", SETTINGS)
    assert found is not None
    assert (found.tenant_id, found.subject_id, found.credential, found.credential_id) == ("t1", "usr_1", Credential.SESSION, "")
    assert (found.actions, found.plan) == (ACTIONS_OF[Role.EDITOR], PlanId.PRO)
    assert await actions_of(rows, "usr_1") == ACTIONS_OF[Role.EDITOR]
    assert await person(rows, "usr_2", SETTINGS) is None
    assert await actions_of(rows, "usr_2") == frozenset()


def test_time_ends_a_credential_at_the_moment_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    assert refused(Credential.API_KEY, expires_at=NOW) == "AUTH_EXPIRED_KEY"
    assert checked(row(expires_at=NOW + timedelta(microseconds=1)), Credential.API_KEY, SETTINGS)
    assert checked(row(created_at=NOW - timedelta(days=90)), Credential.API_KEY, SETTINGS)
    assert refused(Credential.API_KEY, created_at=NOW - timedelta(days=90, microseconds=1)) == "AUTH_INACTIVE_KEY"
