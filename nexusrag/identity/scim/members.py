"""Who is in a group after a request: members have an id and nothing else, and there may be thousands of them."""

from collections.abc import Iterable
from typing import Any

from nexusrag.identity.scim.answers import invalid
from nexusrag.identity.scim.documents import one_of
from nexusrag.identity.scim.filters import Comparison, Node
from nexusrag.identity.scim.matching import Effort, chosen
from nexusrag.identity.scim.patch import Operation
from nexusrag.identity.scim.schema import GROUP, USER, Attribute


def _members() -> Attribute:
    found = GROUP.attribute("members")
    if found is None:
        raise LookupError("members")
    return found


MEMBERS = _members()


class Membership:
    """Ids of the members, changed by one operation after the other."""

    def __init__(self, base: str, ids: Iterable[str]) -> None:
        self._base = base
        self._effort = Effort()
        self.ids: dict[str, None] = dict.fromkeys(ids)

    def apply(self, operation: Operation) -> None:
        """Raises SCIM_PAYLOAD_INVALID with mutability, invalidValue or invalidFilter."""
        whole = operation.target.last is MEMBERS and operation.sub is None
        if not whole or (operation.node is not None and operation.op == "replace"):
            raise invalid("mutability", "A member cannot be changed; remove it and add another.")
        if operation.op == "remove":
            self._remove(operation)
        elif operation.op == "add":
            self.ids.update(dict.fromkeys(ids_in(operation.value)))
        else:
            self.ids = dict.fromkeys(ids_in(operation.value))

    def _remove(self, operation: Operation) -> None:
        """Who is not in the group is out of it already: clients repeat themselves."""
        if operation.node is not None:
            unwanted = self._selected(operation.node)
        elif operation.value is not None:
            unwanted = ids_in(operation.value)
        else:
            unwanted = list(self.ids)
        for user_id in unwanted:
            self.ids.pop(user_id, None)

    def _selected(self, node: Node) -> list[str]:
        if isinstance(node, Comparison) and node.op == "eq" and node.name.lower() == "value" and isinstance(node.value, str):
            return [node.value]  # what clients ask for, without a look at each member
        return [one["value"] for one in chosen(MEMBERS, node, [shown(self._base, user_id) for user_id in self.ids], self._effort)]


def shown(base: str, user_id: str) -> dict[str, str]:
    """A member as answers show it."""
    return {"value": user_id, "$ref": f"{base}{USER.endpoint}/{user_id}", "type": USER.name}


def ids_in(value: Any) -> list[str]:
    """Ids of the members that a client names. Raises SCIM_PAYLOAD_INVALID with invalidValue."""
    ids = []
    for item in value if isinstance(value, list) else [] if value is None else [value]:
        member = one_of(MEMBERS, item) or {}
        if member.get("type", "User").lower() != "user":
            raise invalid("invalidValue", "Groups inside groups are not supported; name people as members.")
        if not member.get("value"):
            raise invalid("invalidValue", "members: each needs the id of a person as its value.")
        ids.append(member["value"])
    return ids
