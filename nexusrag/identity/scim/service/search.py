"""Lists of resources: filtered, sorted, a page at a time (RFC 7644, section 3.4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nexusrag.identity.scim import repository
from nexusrag.identity.scim.answers import MESSAGES, base_of, invalid
from nexusrag.identity.scim.columns import rows_of
from nexusrag.identity.scim.conditions import names_in, sort_key
from nexusrag.identity.scim.documents import Document
from nexusrag.identity.scim.filters import Node, parse_filter, unusable
from nexusrag.identity.scim.paths import resolve
from nexusrag.identity.scim.schema import GROUP, USER, ResourceType
from nexusrag.identity.scim.schemas import Listing, SearchRequest
from nexusrag.identity.scim.selection import Selection, listed, selected
from nexusrag.identity.scim.service.shown import groups, people
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

_FARTHEST = 2**62


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks for. `start` counts from 1."""

    node: Node | None
    sort_by: str | None
    descending: bool
    start: int
    count: int
    selection: Selection


def query_of(call: CallContext, asked: Listing | SearchRequest) -> Query:
    """Numbers out of range are brought into it, as the RFC has it. Raises SCIM_PAYLOAD_INVALID."""
    settings = call.of(Settings).identity
    order = (asked.sort_order or "ascending").lower()
    if order not in ("ascending", "descending"):
        raise invalid("invalidValue", "sortOrder must be ascending or descending.")
    attributes, excluded = asked.attributes or [], asked.excluded_attributes or []
    count = settings.scim_default_page_size if asked.count is None else asked.count
    return Query(
        None if not asked.filter else parse_filter(asked.filter),
        asked.sort_by or None,
        order == "descending",
        min(max(asked.start_index or 1, 1), _FARTHEST),
        min(max(count, 0), settings.scim_max_page_size),
        selected(*(listed(names) if isinstance(names, str) else names for names in (attributes, excluded))),
    )


async def search(call: CallContext, kinds: Sequence[ResourceType], asked: Listing | SearchRequest) -> Document:
    """A ListResponse. The number of statements depends on neither its length nor the tenant's."""
    query = query_of(call, asked)
    _demand_known(kinds, query)
    sources = [rows_of(kind, base_of(call)) for kind in kinds]
    keys = [sort_key(rows, query.sort_by) if query.sort_by else None for rows in sources]
    found = await repository.search(
        call.db, sources, query.node, keys, descending=query.descending, offset=query.start - 1, limit=query.count
    )
    resources = await _loaded(call, found.page, query.selection)
    answer: dict[str, Any] = {
        "schemas": [f"{MESSAGES}ListResponse"],
        "totalResults": found.total,
        "startIndex": query.start,
        "itemsPerPage": len(resources),
    }
    return answer | ({"Resources": resources} if resources or query.count else {})


async def _loaded(call: CallContext, page: list[tuple[str, str]], selection: Selection) -> list[Document]:
    users = await repository.people_by_id(call.db, [key for kind, key in page if kind == USER.name])
    found = await repository.groups_by_id(call.db, [key for kind, key in page if kind == GROUP.name])
    shown = {one.document["id"]: one.document for one in await people(call, list(users.values()), selection)}
    shown |= {one.document["id"]: one.document for one in await groups(call, list(found.values()), selection)}
    return [shown[key] for _, key in page if key in shown]


def _demand_known(kinds: Sequence[ResourceType], query: Query) -> None:
    """What no kind of resource has can be neither filtered nor sorted by."""
    for name in () if query.node is None else names_in(query.node):
        if all(resolve(kind, name) is None for kind in kinds):
            raise unusable(name)
    if query.sort_by and all(resolve(kind, query.sort_by) is None for kind in kinds):
        raise invalid("invalidValue", f"sortBy: there is no attribute {query.sort_by[:100]!r}.")
