"""Inviting people into a tenant, as what the inviter could be themselves at most."""

from collections.abc import Set
from datetime import timedelta

from nexusrag.access.roles.facade import demand_within, resolved
from nexusrag.identity.accounts import repository
from nexusrag.identity.accounts.models import Invitation
from nexusrag.identity.accounts.schemas import InvitationCreate, InvitationMade, InvitationOut
from nexusrag.kernel import clock
from nexusrag.kernel.actions import ACTIONS_OF, Action, Resource, Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.tokens import keyed_hash, mint
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.cursors import Cursors
from nexusrag.web.envelope import Listed, Page


async def invite(call: CallContext, body: InvitationCreate) -> InvitationMade:
    """Raises AUTH_FORBIDDEN for a role with actions that the caller lacks, CONFLICT when the tenant knows the address, or for a role
    above reader where that needs a second admin.
    """
    given = await resolved(call.db, body.role, body.custom_role)
    demand_within(call.principal, given.actions)
    if needs_second(call, given.actions):
        raise ApiError(ErrorCode.CONFLICT, "A higher role needs a second admin: invite as reader, and ask for the role afterwards.")
    if await repository.is_member(call.db, body.email):
        raise ApiError(ErrorCode.CONFLICT, "The tenant has a member with this address already.")
    settings = call.of(Settings)
    minted = mint("inv", new_id("inv"))
    now = clock.now()
    invitation = Invitation(
        tenant_id=call.tenant_id,
        id=minted.id,
        email=body.email,
        role=given.role.value,
        custom_role_id=given.custom_role,
        hash=keyed_hash(minted.secret, settings.auth.auth_key_pepper.get_secret_value()),
        invited_by=call.principal.subject_id,
        created_at=now,
        expires_at=now + timedelta(days=settings.identity.auth_invitation_ttl_days),
    )
    call.session.add(invitation)
    await call.session.flush()
    call.about(Resource.INVITATION, invitation.id)
    call.record(role=given.role.value, custom_role=given.custom_role)
    call.headers["Cache-Control"] = "no-store"
    return InvitationMade.model_validate({**InvitationOut.of(invitation).model_dump(), "token": minted.secret})


def needs_second(call: CallContext, actions: Set[Action]) -> bool:
    """Whether somebody new with these actions would be more than one admin alone may make of them."""
    return call.of(Settings).identity.identity_dual_control_required and not actions <= ACTIONS_OF[Role.READER]


async def list_invitations(call: CallContext, limit: int, cursor: str | None) -> Listed[InvitationOut]:
    """The tenant's invitations, newest first, until 30 days after their end."""
    cursors = call.of(Cursors)
    listing = f"invitations/{call.tenant_id}/{call.principal.subject_id}"
    after = None
    if cursor:
        moment, last_id = cursors.open(listing, cursor)
        after = [clock.parse(moment), last_id]
    found = await repository.invitations(call.db, after, limit + 1)
    more, shown = len(found) > limit, found[:limit]
    following = cursors.seal(listing, [shown[-1].created_at.isoformat(), shown[-1].id]) if more else None
    return Listed([InvitationOut.of(invitation) for invitation in shown], Page(next_cursor=following, has_more=more))


async def revoke(call: CallContext, invitation: Invitation) -> InvitationOut:
    """Raises CONFLICT for one that was accepted. One that was revoked stays so, and holds a custom role no longer."""
    if invitation.accepted_at is not None:
        raise ApiError(ErrorCode.CONFLICT, "This invitation was accepted; disable the user instead.")
    if invitation.revoked_at is None:
        invitation.revoked_at, invitation.custom_role_id = clock.now(), None
        await call.session.flush()
    return InvitationOut.of(invitation)
