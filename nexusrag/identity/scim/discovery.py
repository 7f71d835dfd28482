"""What a client can find out about this service: ServiceProviderConfig, ResourceTypes and Schemas (RFC 7643, sections 5 to 7)."""

from collections.abc import Sequence
from typing import Any

from nexusrag.identity.scim.answers import CONFIGURATION, MESSAGES
from nexusrag.identity.scim.schema import SCHEMAS, TYPES, Attribute, ResourceType, Schema
from nexusrag.kernel.errors import not_found


def service_provider_config(base: str, max_results: int) -> dict[str, Any]:
    return {
        "schemas": [f"{CONFIGURATION}ServiceProviderConfig"],
        "patch": {"supported": True},
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": max_results},
        "changePassword": {"supported": False},
        "sort": {"supported": True},
        "etag": {"supported": True},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "SCIM token",
                "description": "Authorization: Bearer nrag_scim_…, made by an admin of the tenant.",
                "specUri": "https://www.rfc-editor.org/info/rfc6750",
                "primary": True,
            }
        ],
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }


def resource_types(base: str) -> dict[str, Any]:
    return _list([_type(kind, base) for kind in TYPES])


def resource_type(name: str, base: str) -> dict[str, Any]:
    """Raises NOT_FOUND."""
    found = next((kind for kind in TYPES if kind.name == name), None)
    if found is None:
        raise not_found("resource type")
    return _type(found, base)


def schemas(base: str) -> dict[str, Any]:
    return _list([_schema(schema, base) for schema in SCHEMAS.values()])


def schema(urn: str, base: str) -> dict[str, Any]:
    """Raises NOT_FOUND."""
    found = SCHEMAS.get(urn)
    if found is None:
        raise not_found("schema")
    return _schema(found, base)


def _list(resources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schemas": [f"{MESSAGES}ListResponse"],
        "totalResults": len(resources),
        "startIndex": 1,
        "itemsPerPage": len(resources),
        "Resources": resources,
    }


def _type(kind: ResourceType, base: str) -> dict[str, Any]:
    return {
        "schemas": [f"{CONFIGURATION}ResourceType"],
        "id": kind.name,
        "name": kind.name,
        "description": kind.about,
        "endpoint": kind.endpoint,
        "schema": kind.schema.urn,
        "schemaExtensions": [{"schema": extension.urn, "required": False} for extension in kind.extensions],
        "meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/{kind.name}"},
    }


def _schema(found: Schema, base: str) -> dict[str, Any]:
    return {
        "schemas": [f"{CONFIGURATION}Schema"],
        "id": found.urn,
        "name": found.name,
        "description": found.about,
        "attributes": [_attribute(attribute) for attribute in found.attributes],
        "meta": {"resourceType": "Schema", "location": f"{base}/Schemas/{found.urn}"},
    }


def _attribute(attribute: Attribute) -> dict[str, Any]:
    return {
        "name": attribute.name,
        "type": attribute.kind,
        "multiValued": attribute.many,
        "description": attribute.about,
        "required": attribute.required,
        "caseExact": attribute.case_exact,
        "mutability": attribute.mutability,
        "returned": attribute.returned,
        "uniqueness": "server" if attribute.unique else "none",
        **({"canonicalValues": list(attribute.values)} if attribute.values else {}),
        **({"referenceTypes": list(attribute.refers_to)} if attribute.refers_to else {}),
        **({"subAttributes": [_attribute(sub) for sub in attribute.subs]} if attribute.subs else {}),
    }
