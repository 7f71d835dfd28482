"""Where each attribute of people and groups is kept, as SQL expressions. What has no column of its own stands in `users.scim`."""

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    case,
    cast,
    column,
    func,
    join,
    literal,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from nexusrag.identity.scim.paths import Target
from nexusrag.identity.scim.schema import CORE, ENTERPRISE_URN, GROUP, USER, Attribute, ResourceType
from nexusrag.identity.users.facade import Group, GroupMember, User

Expression = SQLColumnExpression[Any]


class Values(Protocol):
    """The values of a list of one resource."""

    def found(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        """Whether one of them is so."""

    def of(self, sub: Attribute | None) -> Expression:
        """A sub-attribute of one of them, or the value itself."""

    def first(self, sub: Attribute | None) -> Expression:
        """That of the primary one, or else of the first."""


class Rows(Protocol):
    """One kind of resource. `entity` is the table, `here` what belongs to the tenant and is shown."""

    @property
    def kind(self) -> ResourceType: ...

    @property
    def entity(self) -> type[User] | type[Group]: ...

    def here(self, tenant_id: str | None) -> ColumnElement[bool]: ...

    def single(self, target: Target) -> Expression: ...

    def many(self, target: Target) -> Values: ...


def shown_name() -> Expression:
    """The name under which a person logs in: of those whom no client has named yet, their address."""
    return func.coalesce(User.user_name, User.email, User.external_subject)


def people(tenant_id: str | None) -> ColumnElement[bool]:
    """The people of the tenant. What was made for keys is nobody's to provision."""
    return and_(User.tenant_id == tenant_id, User.deleted_at.is_(None), ~User.service)


class _InJson:
    """A list in a document."""

    def __init__(self, document: Expression) -> None:
        expanded = func.jsonb_array_elements(document, type_=JSONB())
        self._values = expanded.table_valued(column("value", JSONB()), with_ordinality="place", name="held").render_derived()

    def found(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        return self._from(select(literal(1))).where(condition).exists()

    def of(self, sub: Attribute | None) -> Expression:
        value = self._values.c.value
        if sub is None:
            return value.op("#>>", return_type=Text())(literal([], ARRAY(Text())))
        text = value[sub.name].astext
        return cast(text, Boolean) if sub.kind == "boolean" else text

    def first(self, sub: Attribute | None) -> Expression:
        primary = self._values.c.value["primary"].astext == "true"
        return self._from(select(self.of(sub))).order_by(primary.desc().nulls_last(), self._values.c.place).limit(1).scalar_subquery()

    def _from(self, statement: Select[Any]) -> Select[Any]:
        return statement.select_from(self._values).correlate(User)


def of_a_person() -> ColumnElement[bool]:
    """Whether a member is one. Looked up by key for each: a join goes through all people for each member where statistics are old."""
    is_one = select(and_(User.deleted_at.is_(None), ~User.service))
    same = and_(User.tenant_id == GroupMember.tenant_id, User.id == GroupMember.user_id)
    return is_one.where(same).correlate(GroupMember).scalar_subquery()


@dataclass(frozen=True, slots=True)
class _InTables:
    """A list that other rows make up, whose order means nothing."""

    source: FromClause
    where: ColumnElement[bool]
    outer: type[User] | type[Group]
    columns: dict[str, Expression]

    def found(self, condition: ColumnElement[bool]) -> ColumnElement[bool]:
        # OFFSET keeps it a look-up for each row: as a join it goes through all members for each where statistics are old.
        held = select(literal(1)).select_from(self.source).where(self.where, condition).correlate(self.outer)
        return held.offset(0).exists()

    def of(self, sub: Attribute | None) -> Expression:
        return self.columns[sub.name if sub is not None else "value"]

    def first(self, sub: Attribute | None) -> Expression:
        value = func.min(self.of(sub))
        return select(value).select_from(self.source).where(self.where).correlate(self.outer).scalar_subquery()


class UserRows:
    kind = USER
    entity: type[User] = User

    def __init__(self, base: str) -> None:
        self._base = base
        self._columns: dict[str, Expression] = {
            **_common(User, USER, base),
            "userName": shown_name(),
            "displayName": User.display_name,
            "active": User.status == "active",
        }

    def here(self, tenant_id: str | None) -> ColumnElement[bool]:
        return people(tenant_id)

    def single(self, target: Target) -> Expression:
        column = self._columns.get(str(target))
        if column is not None:
            return column
        text = _kept(target).astext
        return cast(text, Boolean) if target.last.kind == "boolean" else text

    def many(self, target: Target) -> Values:
        name = str(target)
        if name == "groups":
            return self._groups()
        if name == "schemas":
            extended = User.scim.has_key(ENTERPRISE_URN)
            both, core = (func.jsonb_build_array(*urns) for urns in ((f"{CORE}User", ENTERPRISE_URN), (f"{CORE}User",)))
            return _InJson(case((extended, both), else_=core))
        kept = _kept(target)
        if name == "emails":
            address = func.jsonb_build_array(func.jsonb_build_object("value", User.email, "primary", True))
            # Whom no client has written yet has the address of their account.
            return _InJson(case((and_(User.scim.is_(None), User.email.is_not(None)), address), else_=kept))
        return _InJson(kept)

    def _groups(self) -> Values:
        source = join(GroupMember, Group, and_(Group.tenant_id == GroupMember.tenant_id, Group.id == GroupMember.group_id))
        where = and_(GroupMember.tenant_id == User.tenant_id, GroupMember.user_id == User.id)
        columns: dict[str, Expression] = {
            "value": GroupMember.group_id,
            "$ref": literal(f"{self._base}{GROUP.endpoint}/") + GroupMember.group_id,
            "display": Group.display_name,
            "type": literal("direct"),
        }
        return _InTables(source, where, User, columns)


class GroupRows:
    kind = GROUP
    entity: type[Group] = Group

    def __init__(self, base: str) -> None:
        self._base = base
        self._columns: dict[str, Expression] = {**_common(Group, GROUP, base), "displayName": Group.display_name}

    def here(self, tenant_id: str | None) -> ColumnElement[bool]:
        return Group.tenant_id == tenant_id

    def single(self, target: Target) -> Expression:
        return self._columns.get(str(target), cast(null(), Text))

    def many(self, target: Target) -> Values:
        if str(target) == "schemas":
            return _InJson(func.jsonb_build_array(f"{CORE}Group"))
        where = and_(GroupMember.tenant_id == Group.tenant_id, GroupMember.group_id == Group.id, of_a_person())
        columns: dict[str, Expression] = {
            "value": GroupMember.user_id,
            "$ref": literal(f"{self._base}{USER.endpoint}/") + GroupMember.user_id,
            "type": literal("User"),
        }
        return _InTables(GroupMember.__table__, where, Group, columns)


def rows_of(kind: ResourceType, base: str) -> Rows:
    """`base` is the address below which resources stand."""
    return UserRows(base) if kind is USER else GroupRows(base)


def _kept(target: Target) -> Any:
    return User.scim[tuple(step.name for step in target.steps)]


def _common(entity: type[User] | type[Group], kind: ResourceType, base: str) -> dict[str, Expression]:
    return {
        "id": entity.id,
        "externalId": entity.external_id,
        "meta.resourceType": literal(kind.name),
        "meta.created": entity.created_at,
        "meta.lastModified": entity.updated_at,
        "meta.location": literal(f"{base}{kind.endpoint}/") + entity.id,
        "meta.version": literal('W/"') + cast(entity.version, Text) + literal('"'),
    }
