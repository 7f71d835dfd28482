"""Whether a credential that exists is good, and whose it is; asked when a caller comes and again when something about them changed."""

from datetime import datetime, timedelta
from typing import Any

from nexusrag.identity.credentials import repository
from nexusrag.identity.credentials.persons import held_actions, plan_of, principal_of
from nexusrag.infra.database import Work
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Action, Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.principal import Credential, Principal
from nexusrag.settings.auth import AuthSettings

# Who calls in development without a credential; there is none to revoke.
DEV_CREDENTIAL = "key_dev"


def checked(row: Any, kind: Credential, settings: AuthSettings) -> Principal:
    """The caller of a row that `repository` found. Raises ApiError with what is wrong with the credential."""
    if row["tenant_status"] != "active":
        raise unknown(kind)
    if kind is Credential.SCIM:
        if row["revoked_at"] is not None or _expired(row):
            raise unknown(kind)
        plan, features = plan_of(row, settings.default_plan)
        return Principal(
            row["tenant_id"], f"scim:{row['credential_id']}", Role.READER, row["credential_id"], row["is_home"],
            credential=kind, actions=frozenset({Action.SCIM_PROVISION}), plan=plan, features=features,
        )  # fmt: skip
    if row["user_status"] != "active":
        raise unknown(kind)
    if kind is Credential.SESSION:
        if row["revoked_at"] is not None or not row["provider_enabled"]:
            raise ApiError(ErrorCode.AUTH_REVOKED_KEY, "This session was ended; log in again.")
        if _expired(row):
            raise ApiError(ErrorCode.AUTH_EXPIRED_KEY, "This session has expired; log in again.")
        return principal_of(row, kind, settings.default_plan)
    if row["revoked_at"] is not None:
        raise ApiError(ErrorCode.AUTH_REVOKED_KEY, "This API key was revoked; ask an admin for a new one.")
    if _expired(row):
        raise ApiError(ErrorCode.AUTH_EXPIRED_KEY, "This API key has expired; ask an admin for a new one.")
    if not row["active"]:
        raise ApiError(ErrorCode.AUTH_INACTIVE_KEY, "This API key is not active; ask an admin to activate it.")
    anchor: datetime = row["last_used_at"] or row["created_at"]
    days = settings.auth_api_key_inactive_days
    if settings.auth_api_key_inactive_enforced and clock.now() - anchor > timedelta(days=days):
        raise ApiError(ErrorCode.AUTH_INACTIVE_KEY, f"This API key was not used for {days} days; ask an admin to activate it.")
    return principal_of(row, kind, settings.default_plan)


async def still_good(work: Work, principal: Principal, settings: AuthSettings) -> bool:
    """Whether the credential by which a caller was known would be accepted now. `work` is a transaction of the caller's tenant."""
    if settings.auth_dev_bypass and principal.credential_id == DEV_CREDENTIAL:
        return True
    row = await repository.find_again(work, principal.credential, principal.credential_id)
    if row is None:
        return False
    try:
        checked(row, principal.credential, settings)
    except ApiError:
        return False
    return True


async def person(work: Work, user_id: str, settings: AuthSettings) -> Principal | None:
    """Somebody of the transaction's tenant as they would be after a login; None for who is disabled or gone."""
    row = await repository.find_person(work, user_id)
    if row is None:
        return None
    known = {**row, "tenant_id": work.tenant_id, "user_id": user_id, "credential_id": ""}
    return principal_of(known, Credential.SESSION, settings.default_plan)


async def of_credential(work: Work, kind: Credential, credential_id: str, settings: AuthSettings) -> Principal | None:
    """The caller of a credential of the transaction's tenant; None when it would not be accepted now."""
    row = await repository.find_again(work, kind, credential_id)
    try:
        return None if row is None else checked(row, kind, settings)
    except ApiError:
        return None


async def actions_of(work: Work, user_id: str) -> frozenset[Action]:
    """What somebody of the transaction's tenant may do now: nothing, once they are disabled or gone."""
    row = await repository.find_person(work, user_id)
    return frozenset() if row is None else held_actions(row)


def unknown(kind: Credential) -> ApiError:
    """What is told about a credential of which nothing more is to be said."""
    if kind is Credential.SCIM:
        return ApiError(ErrorCode.SCIM_UNAUTHORIZED, "Send a valid SCIM token: Authorization: Bearer nrag_scim_…")
    return ApiError(ErrorCode.AUTH_UNAUTHORIZED, "Send a valid API key or access token: Authorization: Bearer …")


def _expired(row: Any) -> bool:
    return row["expires_at"] is not None and row["expires_at"] <= clock.now()
