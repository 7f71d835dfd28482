"""People, as a provisioning client keeps them: made, changed, switched off, removed. Roles are none of its business."""

from collections.abc import Callable, Mapping
from typing import Any

from nexusrag.identity.scim import repository
from nexusrag.identity.scim.answers import demand_match, taken
from nexusrag.identity.scim.documents import Document, checked, demand_whole
from nexusrag.identity.scim.patch import applied, operations_of
from nexusrag.identity.scim.schema import USER
from nexusrag.identity.scim.selection import Selection
from nexusrag.identity.scim.service.shown import Resource, people, written_of
from nexusrag.identity.users.facade import User, add_user, an_admin_remains, change_user, remove_user, renew, set_active
from nexusrag.infra.changes import PERSON
from nexusrag.kernel import actions
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.events import EventType
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

_TAKEN = "Somebody with this userName, or an account with this address, is there already."
# By these somebody who logs in through the identity provider is recognised.
_IDENTITY = ("userName", "externalId", "emails")


async def create(call: CallContext, body: Mapping[str, Any], selection: Selection) -> Resource:
    """A new person with the role reader. Raises SCIM_PAYLOAD_INVALID, and CONFLICT with uniqueness when the userName is taken."""
    document: Document = {"active": True} | checked(USER, body)
    if await repository.is_name_taken(call.db, document["userName"]):
        raise taken(_TAKEN)
    status = "active" if document["active"] else "disabled"
    try:
        user = await add_user(call.db, status=status, **_columns(document))
    except ApiError as error:
        raise taken(_TAKEN) if error.code is ErrorCode.CONFLICT else error from error
    call.about(actions.Resource.USER, user.id)
    call.also_record(EventType.SCIM_USER_UPDATED, user_id=user.id, change="created", attributes=sorted(document))
    return (await people(call, [user], selection))[0]


async def read(call: CallContext, user: User, selection: Selection) -> Resource:
    return (await people(call, [_demand_person(user)], selection))[0]


async def replace(call: CallContext, user: User, body: Mapping[str, Any], selection: Selection) -> Resource:
    """What the client leaves out is cleared, but for `active`: nobody comes back because a client forgot to say that they are gone."""
    wanted = checked(USER, body)
    return await _change(call, user, lambda held: {"active": held["active"]} | wanted, selection)


async def patch(call: CallContext, user: User, body: Mapping[str, Any], selection: Selection) -> Resource:
    """All operations, or none. Raises SCIM_PAYLOAD_INVALID."""
    operations = operations_of(USER, body)
    return await _change(call, user, lambda held: applied(held, operations), selection)


async def delete(call: CallContext, user: User) -> None:
    """Hide the person for good; the userName is free again. Raises CONFLICT when no active admin would be left."""
    _demand_person(user)
    async with an_admin_remains(call.db):
        await renew(call.db, user)
        demand_match(call, user.version)
        await remove_user(call.db, user)
    await call.announce(PERSON, f"{call.tenant_id}/{user.id}")
    call.also_record(EventType.SCIM_USER_DELETED, user_id=user.id)


async def _change(call: CallContext, user: User, edit: Callable[[Document], Document], selection: Selection) -> Resource:
    """`edit` makes the new document of the old one. Raises SCIM_PAYLOAD_INVALID, PRECONDITION_FAILED, AUTH_FORBIDDEN and CONFLICT."""
    demand_match(call, _demand_person(user).version)
    if _edited(user, edit) != written_of(user):  # a client that repeats itself takes no lock
        async with an_admin_remains(call.db):
            await renew(call.db, user)
            demand_match(call, user.version)
            await _write(call, user, _edited(user, edit))
    return (await people(call, [user], selection))[0]


def _edited(user: User, edit: Callable[[Document], Document]) -> Document:
    document = edit(written_of(user))
    demand_whole(USER, document)
    return document


async def _write(call: CallContext, user: User, document: Document) -> None:
    """Inside `an_admin_remains`, with the person as they are now."""
    held = written_of(user)
    changed = sorted(name for name in held.keys() | document.keys() if held.get(name) != document.get(name))
    if "active" in changed:
        await set_active(call.db, user, active=document["active"])
        await call.announce(PERSON, f"{call.tenant_id}/{user.id}")
        if not document["active"]:
            call.also_record(EventType.SCIM_USER_DISABLED, user_id=user.id)
    others = [name for name in changed if name != "active"]
    if others:
        await _write_columns(call, user, document, others)
    if others or document["active"]:
        call.also_record(EventType.SCIM_USER_UPDATED, user_id=user.id, change="changed", attributes=changed)


async def _write_columns(call: CallContext, user: User, document: Document, changed: list[str]) -> None:
    columns = _columns(document)
    if await _is_guarded(call, user):
        if set(changed) & set(_IDENTITY):
            raise ApiError(
                ErrorCode.AUTH_FORBIDDEN,
                f"An admin has given this person a role, and no identity provider has vouched for them yet: {', '.join(_IDENTITY)} "
                "decide who could log in as them and stay as they are.",
            )
        columns["user_name"] = user.user_name
    if "userName" in changed and await repository.is_name_taken(call.db, document["userName"], user.id):
        raise taken(_TAKEN)
    if columns["email"] != user.email:
        columns["email_verified"] = False
    try:
        await change_user(call.db, user, **columns)
    except ApiError as error:
        raise taken(_TAKEN) if error.code is ErrorCode.CONFLICT else error from error


async def _is_guarded(call: CallContext, user: User) -> bool:
    """Whoever has more than the role of newcomers, and could be taken over by naming somebody else in their place.

    What a group brings counts where a client cannot put people into it anyway.
    """
    raised = user.role != actions.Role.READER.value or user.custom_role_id is not None
    if not raised and call.of(Settings).identity.identity_dual_control_required:
        raised = await repository.is_raised_by_group(call.db, user.id)
    return raised and not await repository.is_bound(call.db, user.id)


def _columns(document: Document) -> dict[str, Any]:
    """Where the document is kept."""
    rest = {name: value for name, value in document.items() if name not in ("userName", "externalId", "displayName", "active")}
    emails = document.get("emails", [])
    primary = next((one for one in emails if one.get("primary")), emails[0] if emails else {})
    return {
        "user_name": document["userName"],
        "external_id": document.get("externalId"),
        "display_name": document.get("displayName"),
        "email": primary.get("value"),
        "scim": rest,
    }


def _demand_person(user: User) -> User:
    """What was made for a key is nobody's to provision. Raises NOT_FOUND."""
    if user.service:
        raise not_found("user")
    return user
