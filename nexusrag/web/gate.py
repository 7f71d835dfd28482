"""What a route demands: one declaration that every stage of the pipeline reads."""

from dataclasses import dataclass
from typing import Literal

from nexusrag.kernel.actions import Action, Permission, Resource
from nexusrag.kernel.events import EventType

Bulkhead = Literal["run", "ingest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """`action` fixes the least role. `on` names the resource that is loaded before the handler, found at `at`.

    `at` is `path` (the path parameter `<kind>_id`) or `body` (the field `<kind>_id` of a JSON body or form). `permission` is
    what the caller needs on the resource. `audit` is recorded when the handler succeeds. `legacy` serves the unversioned alias.
    """

    action: Action | None
    on: Resource | None = None
    at: Literal["path", "body"] = "path"
    permission: Permission | None = None
    audit: EventType | None = None
    bulkhead: Bulkhead | None = None
    idempotent: bool = True
    transaction: bool = True
    legacy: bool = False
    enveloped: bool = True
    reason: str = ""

    @property
    def is_public(self) -> bool:
        return self.action is None


def gate(
    action: Action,
    on: Resource | None = None,
    *,
    at: Literal["path", "body"] = "path",
    permission: Permission | None = None,
    audit: EventType | None = None,
    bulkhead: Bulkhead | None = None,
    idempotent: bool = True,
    legacy: bool = False,
    enveloped: bool = True,
    transaction: bool = True,
) -> Gate:
    """A gate for callers with a credential."""
    return Gate(
        action=action,
        on=on,
        at=at,
        permission=permission,
        audit=audit,
        bulkhead=bulkhead,
        idempotent=idempotent,
        legacy=legacy,
        enveloped=enveloped,
        transaction=transaction,
    )


def public(reason: str, *, legacy: bool = False, enveloped: bool = True) -> Gate:
    """A gate for everyone; `reason` says why no credential is needed."""
    if not reason:
        raise ValueError("a public route needs a reason")
    return Gate(action=None, reason=reason, legacy=legacy, enveloped=enveloped, transaction=False, idempotent=False)
