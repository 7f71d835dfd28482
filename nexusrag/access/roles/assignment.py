"""Giving roles away: nobody gives what they do not have."""

from collections.abc import Collection
from dataclasses import dataclass

from nexusrag.access.roles import repository
from nexusrag.infra.database import Work
from nexusrag.kernel.actions import ACTIONS_OF, Action, Role, actions_named
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.principal import Principal


@dataclass(frozen=True, slots=True)
class Assigned:
    """A role as it is given to somebody. `role` stands for a custom one wherever only the built-in ones are known."""

    role: Role
    custom_role: str | None
    actions: frozenset[Action]


async def resolved(work: Work, role: Role | None, custom_role: str | None) -> Assigned:
    """The role that is meant; a custom one keeps its actions until the transaction ends. Raises VALIDATION_ERROR for an unknown one."""
    if custom_role is not None:
        found = await repository.hold(work, custom_role)
        if found is None:
            fault = {"field": "body.custom_role", "message": "this tenant has no such role", "type": "value_error"}
            raise ApiError(ErrorCode.VALIDATION_ERROR, "body.custom_role: this tenant has no such role", {"errors": [fault]})
        return Assigned(Role(found.base), found.id, actions_named(found.actions))
    if role is None:
        raise ValueError("no role is meant")
    return Assigned(role, None, ACTIONS_OF[role])


def demand_within(principal: Principal, actions: Collection[Action]) -> None:
    """Refuse to give actions that the caller has not. Raises AUTH_FORBIDDEN that names them."""
    lacking = sorted(set(actions) - principal.actions)
    if lacking:
        raise ApiError(ErrorCode.AUTH_FORBIDDEN, "You cannot give what you do not have yourself.", {"missing_actions": lacking})
