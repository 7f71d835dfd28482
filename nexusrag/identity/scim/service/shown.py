"""People and groups as resources: from rows to documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nexusrag.identity.scim import repository
from nexusrag.identity.scim.answers import base_of, tag_of
from nexusrag.identity.scim.documents import Document
from nexusrag.identity.scim.members import shown
from nexusrag.identity.scim.schema import ENTERPRISE_URN, GROUP, USER, ResourceType
from nexusrag.identity.scim.selection import Selection
from nexusrag.identity.users.facade import Group, User
from nexusrag.kernel import clock
from nexusrag.web.call import CallContext


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as an answer shows it, with what its headers say."""

    document: Document
    version: int
    location: str


def written_of(user: User) -> Document:
    """What a client may write of the person."""
    emails = [{"value": user.email, "primary": True}] if user.scim is None and user.email is not None else None
    own = {
        "externalId": user.external_id,
        "userName": user.user_name or user.email or user.external_subject,
        "displayName": user.display_name,
        "active": user.status == "active",
        "emails": emails,
    }
    return {name: value for name, value in own.items() if value is not None} | (user.scim or {})


async def people(call: CallContext, users: Sequence[User], selection: Selection) -> list[Resource]:
    """In the order given; their groups are one statement for all."""
    base = base_of(call)
    wanted = [user.id for user in users] if selection.shows(USER, "groups") else []
    groups = await repository.groups_of(call.db, wanted)
    return [_person(user, groups.get(user.id, []), base, selection) for user in users]


async def groups(call: CallContext, found: Sequence[Group], selection: Selection) -> list[Resource]:
    """In the order given; their members are one statement for all."""
    base = base_of(call)
    wanted = [group.id for group in found] if selection.shows(GROUP, "members") else []
    members = await repository.members_of(call.db, wanted)
    return [_group(group, members.get(group.id, []), base, selection) for group in found]


def _person(user: User, groups: list[tuple[str, str]], base: str, selection: Selection) -> Resource:
    own = written_of(user)
    schemas = [USER.schema.urn, *([ENTERPRISE_URN] if ENTERPRISE_URN in own else [])]
    inside = [{"value": key, "$ref": f"{base}{GROUP.endpoint}/{key}", "display": name, "type": "direct"} for key, name in groups]
    return _resource(USER, user, schemas, own | ({"groups": inside} if inside else {}), base, selection)


def _group(group: Group, members: list[str], base: str, selection: Selection) -> Resource:
    own: Document = {"displayName": group.display_name}
    if group.external_id is not None:
        own["externalId"] = group.external_id
    if members:
        own["members"] = [shown(base, user_id) for user_id in members]
    return _resource(GROUP, group, [GROUP.schema.urn], own, base, selection)


def _resource(kind: ResourceType, row: User | Group, schemas: list[str], own: Document, base: str, selection: Selection) -> Resource:
    location = f"{base}{kind.endpoint}/{row.id}"
    meta: dict[str, Any] = {
        "resourceType": kind.name,
        "created": clock.iso(row.created_at),
        "lastModified": clock.iso(row.updated_at),
        "location": location,
        "version": tag_of(row.version),
    }
    document = selection.of(kind, {"schemas": schemas, "id": row.id, **own, "meta": meta})
    return Resource(document, row.version, location)
