"""What a route demands: one declaration that every stage of the pipeline reads."""

from dataclasses import dataclass
from typing import Literal

from nexusrag.kernel.actions import Action, Permission, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.kernel.principal import PERSONAL, Credential
from nexusrag.kernel.switches import Switch
from nexusrag.kernel.traffic import RouteClass

Bulkhead = Literal["run", "ingest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """`action` fixes the least role. `on` names the resource that is loaded before the handler, found at `at`.

    `at` is `path` (the path parameter `<kind>_id`) or `body` (the field `<kind>_id` of a JSON body or form). `permission` is
    what the caller needs on the resource. `feature` must be part of the tenant's plan. `credentials` are the kinds accepted.
    `operator`: only operators of the platform. `reach` = `operators`: they may name a tenant that is not their own.
    `audit` is recorded when the handler succeeds. `legacy` serves the unversioned alias. `shown_once` is a field of the answer
    that is never stored: an answer repeated for an Idempotency-Key has null there. `rate` is the class of the route where that of its
    method and path is not right. `units` are what one request counts against the tenant's quota. `switch`: the kill switch by which
    operators turn it off. `keyed`: an Idempotency-Key is demanded. `despite_freeze`: served while nothing else is written, because it
    writes nothing, or so that whoever lifts the freeze can come in. `probed`: a public route that is asked at short intervals by machines
    at one address, which no rate limits.
    """

    action: Action | None
    on: Resource | None = None
    at: Literal["path", "body"] = "path"
    permission: Permission | None = None
    feature: Feature | None = None
    credentials: frozenset[Credential] = PERSONAL
    operator: bool = False
    reach: Literal["own", "operators"] = "own"
    audit: EventType | None = None
    shown_once: str | None = None
    bulkhead: Bulkhead | None = None
    rate: RouteClass | None = None
    units: int = 1
    switch: Switch | None = None
    keyed: bool = False
    despite_freeze: bool = False
    probed: bool = False
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
    feature: Feature | None = None,
    credentials: frozenset[Credential] = PERSONAL,
    operator: bool = False,
    reach: Literal["own", "operators"] = "own",
    audit: EventType | None = None,
    shown_once: str | None = None,
    bulkhead: Bulkhead | None = None,
    rate: RouteClass | None = None,
    units: int = 1,
    switch: Switch | None = None,
    keyed: bool = False,
    despite_freeze: bool = False,
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
        feature=feature,
        credentials=credentials,
        operator=operator,
        reach=reach,
        audit=audit,
        shown_once=shown_once,
        bulkhead=bulkhead,
        rate=rate,
        units=units,
        switch=switch,
        keyed=keyed,
        despite_freeze=despite_freeze,
        idempotent=idempotent,
        legacy=legacy,
        enveloped=enveloped,
        transaction=transaction,
    )


def public(reason: str, *, legacy: bool = False, enveloped: bool = True, despite_freeze: bool = False, probed: bool = False) -> Gate:
    """A gate for everyone; `reason` says why no credential is needed."""
    if not reason:
        raise ValueError("a public route needs a reason")
    return Gate(
        action=None,
        reason=reason,
        legacy=legacy,
        enveloped=enveloped,
        despite_freeze=despite_freeze,
        probed=probed,
        transaction=False,
        idempotent=False,
        units=0,
    )
