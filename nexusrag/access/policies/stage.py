"""The stages of policies: who calls, with the policies that bind them; and what these say of anything but a document.

Roles say what may be done with resources other than documents; a policy can take that away, and can give nothing beyond it.
Documents have a rule of their own (knowledge/visibility.py), which asks the same policies.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from nexusrag.access.policies.attributes import Attributes
from nexusrag.access.policies.cache import Policies
from nexusrag.access.policies.caller import Caller, describe
from nexusrag.kernel import clock
from nexusrag.kernel.actions import POLICY_TERMS, Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.domain import Descriptions
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

# Listings of these ask for each of their rows.
_BY_ROW = frozenset({Resource.DOCUMENT, Resource.CORPUS})


def caller_of(call: CallContext) -> Caller:
    """The caller of this request, with the policies of its moment."""
    caller: Caller | None = call.caller
    if caller is None:
        raise RuntimeError("a public route has no caller")
    return caller


async def bind(call: CallContext) -> None:
    """Set the caller with the policies that bind them."""
    auth, policies = call.of(Settings).auth, call.of(Policies)
    own = call.principal.tenant_id
    call.caller = Caller(
        principal=call.principal,
        attributes=Attributes(partial(describe, call.principal), _request(call)),
        policies=await (policies.of(own) if call.gate.transaction else policies.or_last_known(own)),
        default_deny=auth.authz_default_deny,
        bypass=auth.authz_admin_bypass_document_acl,
    )
    if call.gate.on is None:
        _check(call, {})


async def check(call: CallContext) -> None:
    """Refuse what a policy denies about the loaded resource, or about the one that is to be made in it."""
    if call.loaded is not None and call.gate.on is not None:
        _check(call, call.of(Descriptions).of(call))


def _check(call: CallContext, known: Mapping[str, Any]) -> None:
    if call.gate.action is None:
        return
    resource, verbs = POLICY_TERMS[call.gate.action]
    # Documents that exist are judged by their own rule, and listings row by row.
    if (resource is Resource.DOCUMENT and call.gate.on is Resource.DOCUMENT) or (call.gate.on is None and resource in _BY_ROW):
        return
    for verb in verbs:
        refuse(call, caller_of(call).decide(resource, verb, known).denied_by)


def refuse(call: CallContext, policy_id: str | None) -> None:
    """Refuse if a policy denies. Which one is for the log; whoever is refused learns that there is one."""
    if policy_id is not None:
        call.denied_by = policy_id
        raise ApiError(ErrorCode.AUTHZ_DENIED, "A policy denies this; ask an admin.")


def _request(call: CallContext) -> Callable[[], dict[str, Any]]:
    """Bound to what it needs and not to the call, which a run would keep alive with it."""
    action = call.gate.action.value if call.gate.action else ""
    return partial(_describe_request, clock.now(), call.address, call.request.method, call.request.scope["path"], action)


def _describe_request(moment: datetime, address: str | None, method: str, path: str, action: str) -> dict[str, Any]:
    return {"time": clock.seconds(moment), "ip": address, "method": method, "path": path, "action": action}


def _needed(gate: Gate, method: str) -> bool:
    return not gate.is_public


def _has_resource(gate: Gate, method: str) -> bool:
    return not gate.is_public and gate.on is not None


BIND = Stage("policies", bind, _needed)
STAGE = Stage("policies of the resource", check, _has_resource)
