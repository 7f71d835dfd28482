"""HTTP face of provisioning: /v1/scim/v2 for clients, /v1/admin/identity/scim for those who give them tokens."""

from typing import Annotated

from fastapi import Query, Response

from nexusrag.identity.scim import discovery, gates
from nexusrag.identity.scim.answers import ERRORS, MEDIA_TYPE, answer, base_of, is_known, resource, tag_of
from nexusrag.identity.scim.models import ScimToken
from nexusrag.identity.scim.schema import GROUP, TYPES, USER
from nexusrag.identity.scim.schemas import (
    Body,
    Listing,
    ScimTokenCreated,
    ScimTokenList,
    ScimTokenOut,
    ScimTokenRevoke,
    SearchRequest,
    Showing,
)
from nexusrag.identity.scim.selection import Selection, listed, selected
from nexusrag.identity.scim.service import groups, people, tokens
from nexusrag.identity.scim.service.search import search
from nexusrag.identity.scim.service.shown import Resource
from nexusrag.identity.users.facade import Group, User
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings
from nexusrag.web.call import Call, CallContext, Loaded
from nexusrag.web.paging import LARGEST
from nexusrag.web.router import Router

admin = Router("admin/identity/scim", tag="Identity")
scim = Router("scim/v2", tag="SCIM", errors=ERRORS)
_Shown = Annotated[Showing, Query()]
_Asked = Annotated[Listing, Query()]


@admin.post("/token/create", gate=gates.CREATE_TOKEN, status_code=201)
async def create_token(call: Call) -> ScimTokenCreated:
    """Make a token for a provisioning client. It is shown this once."""
    return await tokens.create(call)


@admin.post("/token/revoke", gate=gates.REVOKE_TOKEN)
async def revoke_token(call: Call, token: Loaded[ScimToken], body: ScimTokenRevoke) -> ScimTokenOut:
    """Revoke a token for good; it is refused everywhere within a second. Revoking it again changes nothing."""
    return await tokens.revoke(call, token)


@admin.get("/tokens", gate=gates.LIST_TOKENS)
async def list_tokens(call: Call, limit: Annotated[int, Query(ge=1, le=LARGEST)] = 100, cursor: str | None = None) -> ScimTokenList:
    """List the tenant's tokens, newest first, without secrets."""
    return await tokens.list_tokens(call, limit=limit, cursor=cursor)


@scim.get("/Users", gate=gates.PROVISION, media_type=MEDIA_TYPE)
async def list_users(call: Call, asked: _Asked) -> Response:
    """List people, filtered and sorted."""
    return answer(await search(call, [USER], asked))


@scim.post("/Users", gate=gates.PROVISION, status_code=201, media_type=MEDIA_TYPE)
async def create_user(call: Call, body: Body, shown: _Shown) -> Response:
    """Make a person, with the role reader."""
    return _one(await people.create(call, body, _selection(shown)), 201)


@scim.get("/Users/{user_id}", gate=gates.PERSON, media_type=MEDIA_TYPE)
async def get_user(call: Call, user: Loaded[User], shown: _Shown) -> Response:
    """Read a person; 304 for a version that is known (If-None-Match)."""
    return _unless_known(call, await people.read(call, user, _selection(shown)))


@scim.put("/Users/{user_id}", gate=gates.PERSON, media_type=MEDIA_TYPE)
async def replace_user(call: Call, user: Loaded[User], body: Body, shown: _Shown) -> Response:
    """Replace what is kept of a person; what is left out is cleared, but for `active`."""
    return _one(await people.replace(call, user, body, _selection(shown)))


@scim.patch("/Users/{user_id}", gate=gates.PERSON, media_type=MEDIA_TYPE)
async def patch_user(call: Call, user: Loaded[User], body: Body, shown: _Shown) -> Response:
    """Change a person: all operations, or none. `active` false ends all their credentials within a second."""
    return _one(await people.patch(call, user, body, _selection(shown)))


@scim.delete("/Users/{user_id}", gate=gates.PERSON, status_code=204)
async def delete_user(call: Call, user: Loaded[User]) -> None:
    """Remove a person; their credentials end within a second."""
    await people.delete(call, user)


@scim.post("/Users/.search", gate=gates.ASK, media_type=MEDIA_TYPE)
async def search_users(call: Call, body: SearchRequest) -> Response:
    """List people by a query in the body."""
    return answer(await search(call, [USER], body))


@scim.get("/Groups", gate=gates.PROVISION, media_type=MEDIA_TYPE)
async def list_groups(call: Call, asked: _Asked) -> Response:
    """List groups, filtered and sorted."""
    return answer(await search(call, [GROUP], asked))


@scim.post("/Groups", gate=gates.PROVISION, status_code=201, media_type=MEDIA_TYPE)
async def create_group(call: Call, body: Body, shown: _Shown) -> Response:
    """Make a group. It brings no role until an admin maps it to one."""
    return _one(await groups.create(call, body, _selection(shown)), 201)


@scim.get("/Groups/{group_id}", gate=gates.GROUP, media_type=MEDIA_TYPE)
async def get_group(call: Call, group: Loaded[Group], shown: _Shown) -> Response:
    """Read a group; 304 for a version that is known (If-None-Match)."""
    return _unless_known(call, await groups.read(call, group, _selection(shown)))


@scim.put("/Groups/{group_id}", gate=gates.GROUP, media_type=MEDIA_TYPE)
async def replace_group(call: Call, group: Loaded[Group], body: Body, shown: _Shown) -> Response:
    """Replace a group's names and members; what is left out is cleared."""
    return _one(await groups.replace(call, group, body, _selection(shown)))


@scim.patch("/Groups/{group_id}", gate=gates.GROUP, media_type=MEDIA_TYPE)
async def patch_group(call: Call, group: Loaded[Group], body: Body, shown: _Shown) -> Response:
    """Change a group: all operations, or none."""
    return _one(await groups.patch(call, group, body, _selection(shown)))


@scim.delete("/Groups/{group_id}", gate=gates.GROUP, status_code=204)
async def delete_group(call: Call, group: Loaded[Group]) -> None:
    """Delete a group; what its members had through it ends within a second."""
    await groups.delete(call, group)


@scim.post("/Groups/.search", gate=gates.ASK, media_type=MEDIA_TYPE)
async def search_groups(call: Call, body: SearchRequest) -> Response:
    """List groups by a query in the body."""
    return answer(await search(call, [GROUP], body))


@scim.post("/.search", gate=gates.ASK, media_type=MEDIA_TYPE)
async def search_all(call: Call, body: SearchRequest) -> Response:
    """List people and groups together by a query in the body."""
    return answer(await search(call, TYPES, body))


@scim.get("/ServiceProviderConfig", gate=gates.DESCRIBE, media_type=MEDIA_TYPE)
async def get_service_provider_config(call: Call) -> Response:
    """What this service can do."""
    return answer(discovery.service_provider_config(base_of(call), call.of(Settings).identity.scim_max_page_size))


@scim.get("/ResourceTypes", gate=gates.DESCRIBE, media_type=MEDIA_TYPE)
async def list_resource_types(call: Call) -> Response:
    """The kinds of resource."""
    return answer(discovery.resource_types(base_of(call)))


@scim.get("/ResourceTypes/{name}", gate=gates.DESCRIBE, media_type=MEDIA_TYPE)
async def get_resource_type(call: Call, name: str) -> Response:
    """One kind of resource."""
    return answer(discovery.resource_type(name, base_of(call)))


@scim.get("/Schemas", gate=gates.DESCRIBE, media_type=MEDIA_TYPE)
async def list_schemas(call: Call) -> Response:
    """The attributes of all kinds of resource."""
    return answer(discovery.schemas(base_of(call)))


@scim.get("/Schemas/{urn}", gate=gates.DESCRIBE, media_type=MEDIA_TYPE)
async def get_schema(call: Call, urn: str) -> Response:
    """The attributes of one schema."""
    return answer(discovery.schema(urn, base_of(call)))


async def not_offered(call: Call) -> Response:
    """501: nobody logs in with a SCIM token, so there is no /Me; and there is no /Bulk, as ServiceProviderConfig says."""
    raise ApiError(ErrorCode.NOT_IMPLEMENTED, "This is not offered here; ServiceProviderConfig says what is.")


for _declare, _path in [
    *((declare, "/Me") for declare in (scim.get, scim.post, scim.put, scim.patch, scim.delete)),
    (scim.post, "/Bulk"),
]:
    _declare(_path, gate=gates.DESCRIBE, media_type=MEDIA_TYPE)(not_offered)


def _one(found: Resource, status: int = 200) -> Response:
    return resource(found.document, found.version, found.location, status)


def _unless_known(call: CallContext, found: Resource) -> Response:
    if is_known(call, found.version):
        return Response(status_code=304, headers={"ETag": tag_of(found.version)})
    return _one(found)


def _selection(shown: Showing) -> Selection:
    return selected(listed(shown.attributes), listed(shown.excluded_attributes))
