"""Resources as clients send them, checked against their schema: names in our spelling, values of the right type, nothing else."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from nexusrag.identity.scim.answers import invalid
from nexusrag.identity.scim.filters import fold
from nexusrag.identity.scim.schema import Attribute, ResourceType

MAX_TEXT = 65_536  # characters of one value: pictures and certificates may stand in a document
MAX_NAME = 256  # characters of what is looked up or shown in lists
MAX_VALUES = 200  # of one list
MAX_BYTES = 131_072  # of one person's document
_NAMES = frozenset({"userName", "displayName", "externalId"})
_DOTTED_CAPITAL_I = "\u0130"  # becomes a plain i in small letters, and so somebody else's name
Document = dict[str, Any]


def checked(kind: ResourceType, body: Mapping[str, Any]) -> Document:
    """What the client may write of a resource. Unknown and read-only attributes are left out, and so is whatever is null or empty.

    Raises SCIM_PAYLOAD_INVALID with invalidSyntax or invalidValue.
    """
    document: Document = {}
    for name, value in _unique(body).items():
        if name.lower() == "schemas":
            _demand_schema(kind, value)
        attribute = kind.attribute(name)
        if attribute is not None and attribute.writable:
            put(document, attribute, value)
    demand_whole(kind, document)
    return document


def demand_whole(kind: ResourceType, document: Document) -> None:
    """Raises SCIM_PAYLOAD_INVALID with invalidValue for a resource that lacks what it needs, or is too large."""
    for attribute in kind.schema.attributes:
        if attribute.required and attribute.kind != "boolean" and not document.get(attribute.name, "").strip():
            raise invalid("invalidValue", f"{attribute.name} is required.")
    if len(orjson.dumps({name: value for name, value in document.items() if name != "members"})) > MAX_BYTES:
        raise invalid("invalidValue", f"The resource is larger than {MAX_BYTES} bytes.")


def put(document: Document, attribute: Attribute, value: Any) -> None:
    """Set the attribute; null and what is empty take it away."""
    found = value_of(attribute, value)
    if found is None:
        document.pop(attribute.name, None)
    else:
        document[attribute.name] = found


def value_of(attribute: Attribute, value: Any) -> Any:
    """The value as it is kept, or None for none. Raises SCIM_PAYLOAD_INVALID with invalidValue."""
    if not attribute.many:
        # Some clients put what is single into a list.
        return one_of(attribute, value[0] if isinstance(value, list) and len(value) == 1 else value)
    given = [] if value is None else value if isinstance(value, list) else [value]
    found: dict[bytes, Any] = {}  # by what they are: the same value twice is one
    for item in given:
        one = one_of(attribute, item)
        if one is not None:
            found.setdefault(orjson.dumps(one, option=orjson.OPT_SORT_KEYS), one)
    demand_few(attribute, list(found.values()))
    return list(found.values()) or None


def one_of(attribute: Attribute, value: Any) -> Any:
    """One value of the attribute, or None for none."""
    if value is None:
        return None
    if attribute.kind == "complex":
        return _complex(attribute, value)
    if attribute.kind == "boolean":
        return _boolean(attribute, value)
    if not isinstance(value, str):
        raise invalid("invalidValue", f"{attribute.name} must be a text.")
    return _text(attribute, value)


def demand_few(attribute: Attribute, values: Sequence[Any]) -> None:
    """At most one primary value, and no more values than a person has. Raises SCIM_PAYLOAD_INVALID with invalidValue."""
    if len(values) > MAX_VALUES and attribute.name != "members":
        raise invalid("invalidValue", f"{attribute.name} holds more than {MAX_VALUES} values.")
    if attribute.sub("primary") is not None and sum(one.get("primary") is True for one in values) > 1:
        raise invalid("invalidValue", f"{attribute.name}: only one value can be the primary one.")


def _complex(attribute: Attribute, value: Any) -> Document | None:
    if isinstance(value, str) and attribute.sub("value") is not None:
        value = {"value": value}  # how some clients name a manager, or a member
    if not isinstance(value, dict):
        raise invalid("invalidValue", f"{attribute.name} must be an object.")
    document: Document = {}
    for name, inner in _unique(value).items():
        sub = attribute.sub(name)
        if sub is not None and sub.writable:
            put(document, sub, inner)
    return document or None


def _boolean(attribute: Attribute, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise invalid("invalidValue", f"{attribute.name} must be true or false.")


def _text(attribute: Attribute, value: str) -> str:
    most = MAX_NAME if attribute.name in _NAMES else MAX_TEXT
    if len(value) > most:
        raise invalid("invalidValue", f"{attribute.name} is longer than {most} characters.")
    if attribute.kind == "binary":
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid("invalidValue", f"{attribute.name} must be base64.") from error
    if attribute.unique and is_ambiguous(value):
        raise invalid("invalidValue", f"{attribute.name} holds a letter that in small letters would be another name's.")
    return value if attribute.case_exact else fold(value)


def is_ambiguous(name: str) -> bool:
    """Whether the name, regardless of case, would be taken for another one."""
    return _DOTTED_CAPITAL_I in fold(name)


def _unique(body: Mapping[str, Any]) -> Mapping[str, Any]:
    if len({name.lower() for name in body}) != len(body):
        raise invalid("invalidSyntax", "The same attribute is given twice.")
    return body


def _demand_schema(kind: ResourceType, value: Any) -> None:
    given = value if isinstance(value, list) else []
    if kind.schema.urn.lower() not in [urn.lower() for urn in given if isinstance(urn, str)]:
        raise invalid("invalidValue", f"schemas must name {kind.schema.urn}.")
