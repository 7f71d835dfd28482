"""What a resource may hold: the attributes of RFC 7643, one declaration that validation, filters, PATCH and /Schemas read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["string", "boolean", "dateTime", "reference", "binary", "complex"]
CORE = "urn:ietf:params:scim:schemas:core:2.0:"
ENTERPRISE_URN = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


@dataclass(frozen=True, slots=True)
class Attribute:
    """`subs` are the sub-attributes of a complex one; `many`: it holds a list. An extension is a complex attribute under its URN."""

    name: str
    about: str
    kind: Kind = "string"
    many: bool = False
    required: bool = False
    case_exact: bool = False
    mutability: Literal["readWrite", "readOnly", "immutable"] = "readWrite"
    returned: Literal["default", "always"] = "default"
    unique: bool = False
    values: tuple[str, ...] = ()
    refers_to: tuple[str, ...] = ()
    subs: tuple["Attribute", ...] = ()

    @property
    def writable(self) -> bool:
        return self.mutability != "readOnly"

    def sub(self, name: str) -> "Attribute | None":
        """The sub-attribute of this name, in any case."""
        return _named(self.subs, name)


@dataclass(frozen=True, slots=True)
class Schema:
    urn: str
    name: str
    about: str
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One kind of resource: its own schema, extensions, and what all resources have."""

    name: str
    endpoint: str
    about: str
    schema: Schema
    extensions: tuple[Schema, ...] = ()

    def attribute(self, name: str) -> Attribute | None:
        """The attribute of this name, in any case; an extension by its URN."""
        return _named((*COMMON, *self.schema.attributes), name) or next(
            (extension_of(one) for one in self.extensions if one.urn.lower() == name.lower()), None
        )


def extension_of(schema: Schema) -> Attribute:
    """An extension as the attribute under which its own attributes stand."""
    return _EXTENSIONS[schema.urn]


def _named(attributes: tuple[Attribute, ...], name: str) -> Attribute | None:
    folded = name.lower()
    return next((attribute for attribute in attributes if attribute.name.lower() == folded), None)


def _many(name: str, about: str, *types: str, value: Attribute | None = None) -> Attribute:
    """A list of values with the sub-attributes of RFC 7643, section 2.4."""
    return Attribute(
        name,
        about,
        kind="complex",
        many=True,
        subs=(
            value or Attribute("value", "The value itself."),
            Attribute("display", "The value as people read it."),
            Attribute("type", "What the value is for.", values=types),
            Attribute("primary", "Whether this is the preferred one of the values.", kind="boolean"),
        ),
    )


COMMON = (
    Attribute(
        "schemas", "URNs of the schemas in use.", kind="reference", many=True, case_exact=True, mutability="readOnly", returned="always"
    ),
    Attribute("id", "Our own id of the resource.", case_exact=True, mutability="readOnly", returned="always", unique=True),
    Attribute("externalId", "The client's id of the resource.", case_exact=True),
    Attribute(
        "meta",
        "What is known about the resource itself.",
        kind="complex",
        mutability="readOnly",
        subs=(
            Attribute("resourceType", "The kind of resource.", case_exact=True, mutability="readOnly"),
            Attribute("created", "When it was made.", kind="dateTime", mutability="readOnly"),
            Attribute("lastModified", "When it was last changed.", kind="dateTime", mutability="readOnly"),
            Attribute("location", "Its address.", kind="reference", case_exact=True, mutability="readOnly"),
            Attribute("version", "Its entity tag.", case_exact=True, mutability="readOnly"),
        ),
    ),
)

_NAME = Attribute(
    "name",
    "The parts of the person's name.",
    kind="complex",
    subs=(
        Attribute("formatted", "The whole name."),
        Attribute("familyName", "The family name."),
        Attribute("givenName", "The given name."),
        Attribute("middleName", "Middle names."),
        Attribute("honorificPrefix", "A title before the name."),
        Attribute("honorificSuffix", "A suffix after the name."),
    ),
)
_ADDRESSES = Attribute(
    "addresses",
    "Postal addresses.",
    kind="complex",
    many=True,
    subs=(
        Attribute("formatted", "The whole address."),
        Attribute("streetAddress", "Street and number."),
        Attribute("locality", "City."),
        Attribute("region", "State or region."),
        Attribute("postalCode", "Postal code."),
        Attribute("country", "Country, ISO 3166-1 alpha-2."),
        Attribute("type", "What the address is for.", values=("work", "home", "other")),
        Attribute("primary", "Whether this is the preferred address.", kind="boolean"),
    ),
)
_GROUPS = Attribute(
    "groups",
    "Groups that the person is in; changed through the groups.",
    kind="complex",
    many=True,
    mutability="readOnly",
    subs=(
        Attribute("value", "Id of the group.", case_exact=True, mutability="readOnly"),
        Attribute("$ref", "Address of the group.", kind="reference", case_exact=True, mutability="readOnly", refers_to=("Group",)),
        Attribute("display", "Name of the group.", mutability="readOnly"),
        Attribute("type", "How the person is in it.", mutability="readOnly", values=("direct",)),
    ),
)
_LINK = Attribute("value", "Address of the picture; never fetched.", kind="reference", case_exact=True, refers_to=("external",))
_CERTIFICATE = Attribute("value", "A DER certificate, in base64.", kind="binary", case_exact=True)
_PHONES = ("work", "home", "mobile", "fax", "pager", "other")

USER_SCHEMA = Schema(
    f"{CORE}User",
    "User",
    "A person.",
    (
        Attribute("userName", "Under which the person logs in; unique in the tenant, in any case.", required=True, unique=True),
        _NAME,
        Attribute("displayName", "The name that is shown."),
        Attribute("nickName", "What the person is called."),
        Attribute("profileUrl", "A page about the person; never fetched.", kind="reference", case_exact=True, refers_to=("external",)),
        Attribute("title", "Job title."),
        Attribute("userType", "Relation to the organisation."),
        Attribute("preferredLanguage", "Language, as in Accept-Language."),
        Attribute("locale", "Locale, such as en-US."),
        Attribute("timezone", "Time zone, such as Europe/Berlin."),
        # Always held, so it cannot be taken away; where a new person comes without it, it is true.
        Attribute("active", "Whether the person may use the product. False ends all their credentials.", kind="boolean", required=True),
        _many("emails", "E-mail addresses.", "work", "home", "other"),
        _many("phoneNumbers", "Telephone numbers.", *_PHONES),
        _many("ims", "Addresses for instant messages.", "aim", "gtalk", "icq", "xmpp", "msn", "skype", "qq", "yahoo"),
        _many("photos", "Pictures.", "photo", "thumbnail", value=_LINK),
        _ADDRESSES,
        _GROUPS,
        _many("entitlements", "What the client calls entitlements. They grant nothing here."),
        _many("roles", "What the client calls roles. They grant nothing here: groups do, as an admin has mapped them."),
        _many("x509Certificates", "Certificates.", value=_CERTIFICATE),
    ),
)
ENTERPRISE_SCHEMA = Schema(
    ENTERPRISE_URN,
    "EnterpriseUser",
    "A person's place in an organisation.",
    (
        Attribute("employeeNumber", "Number that the organisation has given the person."),
        Attribute("costCenter", "Cost center."),
        Attribute("organization", "Organisation."),
        Attribute("division", "Division."),
        Attribute("department", "Department."),
        Attribute(
            "manager",
            "The person's manager.",
            kind="complex",
            subs=(
                Attribute("value", "Id of the manager.", case_exact=True),
                Attribute("$ref", "Address of the manager; never fetched.", kind="reference", case_exact=True, refers_to=("User",)),
            ),
        ),
    ),
)
GROUP_SCHEMA = Schema(
    f"{CORE}Group",
    "Group",
    "People under one name.",
    (
        Attribute("displayName", "Name of the group; unique in the tenant, in any case.", required=True, unique=True),
        Attribute(
            "members",
            "People in the group. Groups inside groups are not supported.",
            kind="complex",
            many=True,
            subs=(
                Attribute("value", "Id of the person.", case_exact=True, mutability="immutable"),
                Attribute("$ref", "Address of the person.", kind="reference", case_exact=True, mutability="immutable", refers_to=("User",)),
                Attribute("type", "Always User.", mutability="immutable", values=("User",)),
            ),
        ),
    ),
)
SCHEMAS: Mapping[str, Schema] = {schema.urn: schema for schema in (USER_SCHEMA, ENTERPRISE_SCHEMA, GROUP_SCHEMA)}
_EXTENSIONS = {schema.urn: Attribute(schema.urn, schema.about, kind="complex", subs=schema.attributes) for schema in (ENTERPRISE_SCHEMA,)}

USER = ResourceType("User", "/Users", "People of the tenant", USER_SCHEMA, (ENTERPRISE_SCHEMA,))
GROUP = ResourceType("Group", "/Groups", "Groups of the tenant", GROUP_SCHEMA)
TYPES = (USER, GROUP)
