"""Groups, as a provisioning client keeps them. Which role a group brings is an admin's to say (users)."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from nexusrag.identity.scim import repository
from nexusrag.identity.scim.answers import base_of, demand_match, invalid, taken
from nexusrag.identity.scim.documents import Document, checked, demand_whole
from nexusrag.identity.scim.members import MEMBERS, Membership, ids_in
from nexusrag.identity.scim.patch import Operation, applied, operations_of
from nexusrag.identity.scim.schema import GROUP
from nexusrag.identity.scim.selection import Selection
from nexusrag.identity.scim.service.shown import Resource, groups
from nexusrag.identity.users.facade import (
    Group,
    add_group,
    add_members,
    an_admin_remains,
    delete_group,
    remove_members,
    rename_group,
    renew,
)
from nexusrag.infra.changes import TENANT
from nexusrag.kernel import actions
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

_TAKEN = "A group with this displayName is there already."


async def create(call: CallContext, body: Mapping[str, Any], selection: Selection) -> Resource:
    """A new group without a role. Raises SCIM_PAYLOAD_INVALID, and CONFLICT with uniqueness when the displayName is taken."""
    document = checked(GROUP, body)
    members = _members_in(body)
    try:
        group = await add_group(call.db, document["displayName"], external_id=document.get("externalId"))
    except ApiError as error:
        raise taken(_TAKEN) if error.code is ErrorCode.CONFLICT else error from error
    await _put_in(call, group, members)
    call.about(actions.Resource.GROUP, group.id)
    call.also_record(EventType.SCIM_GROUP_UPDATED, group_id=group.id, change="created", added=len(members))
    return await _shown(call, group, selection)


async def read(call: CallContext, group: Group, selection: Selection) -> Resource:
    return await _shown(call, group, selection)


async def replace(call: CallContext, group: Group, body: Mapping[str, Any], selection: Selection) -> Resource:
    """What the client leaves out is cleared."""
    wanted = checked(GROUP, body)
    members = _members_in(body)
    return await _change(call, group, lambda held, ids: (wanted, members), selection)


async def patch(call: CallContext, group: Group, body: Mapping[str, Any], selection: Selection) -> Resource:
    """All operations, or none. Raises SCIM_PAYLOAD_INVALID."""
    operations = operations_of(GROUP, body)
    return await _change(call, group, lambda held, ids: _patched(base_of(call), operations, held, ids), selection)


async def delete(call: CallContext, group: Group) -> None:
    """What its members had through it ends. Raises CONFLICT when no active admin would be left."""
    async with an_admin_remains(call.db):
        await renew(call.db, group)
        demand_match(call, group.version)
        await delete_group(call.db, group)
    await call.announce(TENANT, call.tenant_id)
    call.also_record(EventType.SCIM_GROUP_UPDATED, group_id=group.id, change="deleted")


_Edit = Callable[[Document, Iterable[str]], tuple[Document, Iterable[str]]]


async def _change(call: CallContext, group: Group, edit: _Edit, selection: Selection) -> Resource:
    """`edit` makes the new document and members of the old ones. One change of a tenant's groups at a time: each sees the one before."""
    async with an_admin_remains(call.db):
        await renew(call.db, group)
        demand_match(call, group.version)
        held = _written_of(group)
        inside = (await repository.members_of(call.db, [group.id])).get(group.id, [])
        document, members = edit(held, inside)
        demand_whole(GROUP, document)
        wanted = dict.fromkeys(members)
        changed = [name for name in ("displayName", "externalId") if held.get(name) != document.get(name)]
        await _write(call, group, document, changed)
        joining, leaving = wanted.keys() - set(inside), set(inside) - wanted.keys()
        added = await _put_in(call, group, joining)
        removed = len(await remove_members(call.db, group, leaving)) if leaving else 0
    if changed or added or removed:
        call.also_record(
            EventType.SCIM_GROUP_UPDATED, group_id=group.id, change="changed", attributes=changed, added=added, removed=removed
        )
    return await _shown(call, group, selection)


def _patched(base: str, operations: Iterable[Operation], held: Document, ids: Iterable[str]) -> tuple[Document, Iterable[str]]:
    membership, document = Membership(base, ids), held
    for operation in operations:
        if operation.target.steps[0] is MEMBERS:
            membership.apply(operation)
        else:
            document = applied(document, [operation])
    return document, membership.ids


async def _write(call: CallContext, group: Group, document: Document, changed: list[str]) -> None:
    if "displayName" in changed:
        try:
            await rename_group(call.db, group, document["displayName"])
        except ApiError as error:
            raise taken(_TAKEN) if error.code is ErrorCode.CONFLICT else error from error
    if "externalId" in changed:
        group.external_id = document.get("externalId")
        group.version += 1


async def _put_in(call: CallContext, group: Group, user_ids: Collection[str]) -> int:
    """Raises SCIM_PAYLOAD_INVALID when the tenant has not all of them, AUTH_FORBIDDEN where raising somebody needs a second admin."""
    if not user_ids:
        return 0
    unknown = sorted(set(user_ids) - await repository.known_people(call.db, user_ids))
    if unknown:
        raise invalid("invalidValue", f"members: there is no person {unknown[0][:100]!r} here.")
    if group.role is not None and call.of(Settings).identity.identity_dual_control_required:
        raise ApiError(
            ErrorCode.AUTH_FORBIDDEN,
            f"Who joins this group becomes {group.role}, and raising somebody needs a second admin here.",
        )
    return len(await add_members(call.db, group, user_ids))


def _members_in(body: Mapping[str, Any]) -> list[str]:
    return [user_id for name, value in body.items() if name.lower() == "members" for user_id in ids_in(value)]


def _written_of(group: Group) -> Document:
    return {"displayName": group.display_name} | ({"externalId": group.external_id} if group.external_id is not None else {})


async def _shown(call: CallContext, group: Group, selection: Selection) -> Resource:
    return (await groups(call, [group], selection))[0]
