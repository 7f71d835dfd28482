"""What a condition may name, and the values that it finds there: the caller's, the request's and the resource's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from nexusrag.access.policies.values import SCALARS, kind, storable

Known = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
PRINCIPAL = frozenset({"id", "tenant_id", "role", "custom_role", "groups", "group_ids", "email", "credential", "credential_id"})
REQUEST = frozenset({"time", "ip", "method", "path", "action"})


@dataclass(frozen=True, slots=True)
class Schema:
    """Attributes of one type of resource. Below an open one lies what clients stored: `labels.team`."""

    plain: frozenset[str]
    open: frozenset[str] = frozenset()


SCHEMAS: Mapping[str, Schema] = {
    "document": Schema(
        frozenset({"id", "corpus_id", "filename", "content_type", "source", "status", "owner", "size_bytes", "created_at", "updated_at"}),
        frozenset({"labels", "metadata"}),
    ),
    "corpus": Schema(frozenset({"id", "name", "visibility", "owner", "created_at"})),
    "run": Schema(frozenset({"id", "corpus_id", "session_id", "owner"})),
}
_OTHERS = Schema(frozenset({"id"}))


def schema_of(resource_type: str, schemas: Mapping[str, Schema] = SCHEMAS) -> Schema:
    """What a policy on this type may name. One on `*` may name all there is; what a resource does not have is missing."""
    if resource_type != "*":
        return schemas.get(resource_type, _OTHERS)
    every = [*schemas.values(), _OTHERS]
    return Schema(frozenset().union(*(schema.plain for schema in every)), frozenset().union(*(schema.open for schema in every)))


class Attributes:
    """The values of one decision. `request["time"]` is a moment in ISO 8601 with a zone, `request["ip"]` an address.

    What JSON in PostgreSQL cannot hold counts as missing, so that both sides see the same. Caller and request may be functions, which
    are called when a policy asks: most requests meet none that does.
    """

    def __init__(self, principal: Known, request: Known, resource: Mapping[str, Any] | None = None) -> None:
        self._of_principal = principal
        self._of_request = request
        self.resource: dict[str, Any] = dict(resource or {})
        self._local: dict[tzinfo, datetime | None] = {}

    @cached_property
    def principal(self) -> dict[str, Any]:
        return _said(self._of_principal)

    @cached_property
    def request(self) -> dict[str, Any]:
        return _said(self._of_request)

    def about(self, resource: Mapping[str, Any]) -> "Attributes":
        """The same caller and request with another resource."""
        other = object.__new__(Attributes)
        other.__dict__.update(self.__dict__)
        other.resource = dict(resource)
        return other

    def read(self, root: str, names: tuple[str, ...]) -> Any:
        """The value at the path, or None."""
        value: Any = self.resource if root == "resource" else self.principal if root == "principal" else self.request
        for name in names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    @cached_property
    def address(self) -> tuple[int, int] | None:
        """Version and number of the caller's address; an IPv4 address inside IPv6 is an IPv4 address."""
        given = self.request.get("ip")
        try:
            address = ip_address(given) if isinstance(given, str) else None
        except ValueError:
            return None
        return None if address is None else unmapped(address)

    def local(self, zone: tzinfo) -> datetime | None:
        """The time of the request on the clocks of a zone."""
        if zone not in self._local:
            self._local[zone] = _moment(self.request.get("time"), zone)
        return self._local[zone]


def _said(known: Known) -> dict[str, Any]:
    given = known if isinstance(known, Mapping) else known()
    return {name: _plain(value) for name, value in given.items()}


def unmapped(address: IPv4Address | IPv6Address) -> tuple[int, int]:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


def _moment(given: Any, zone: tzinfo) -> datetime | None:
    try:
        moment = datetime.fromisoformat(given) if isinstance(given, str) else None
        return moment.astimezone(zone) if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _plain(value: Any) -> Any:
    sort = kind(value)
    if sort == "string":
        return str(value) if storable(value) else None
    if sort == "list":
        return [item for item in (_plain(item) for item in value if kind(item) in SCALARS) if item is not None]
    return value if sort is not None else None
