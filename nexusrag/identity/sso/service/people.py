"""Which of our people somebody is for whom a provider vouches, and what becomes of newcomers and of their roles."""

from nexusrag.access.roles.facade import Assigned, resolved
from nexusrag.identity.sso import repository
from nexusrag.identity.sso.claims import Vouched
from nexusrag.identity.sso.models import UserIdentity
from nexusrag.identity.sso.refusals import no_account
from nexusrag.identity.sso.service.opened import OpenProvider
from nexusrag.identity.users.facade import User, add_user, an_admin_remains, find_user, put_role, renew
from nexusrag.infra.changes import PERSON, announce
from nexusrag.infra.database import Work
from nexusrag.kernel import clock
from nexusrag.kernel.actions import ACTIONS_OF, Role
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.events import EventType
from nexusrag.security.audit import facade as audit
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext


async def recognised(call: CallContext, work: Work, found: OpenProvider, person: Vouched) -> User:
    """The user that this is: known, linked, or made now. Raises SSO_JIT_DISABLED for strangers and the disabled."""
    identity, user = await _known(work, found, person)
    if user is None:
        await repository.one_newcomer_at_a_time(work)
        identity, user = await _known(work, found, person)
    if identity is None or user is None:
        identity, user = await _welcome(call, work, found, person, identity)
    elif identity.jit and user.status == "active":
        await _follow(call, work, user, person)
    if user.status != "active":
        call.claimed = (found.tenant_id, "user", user.id)
        raise no_account("the user is disabled")
    identity.last_login_at = clock.now()
    await work.flush()
    await repository.note_login(work, user.id)
    return user


async def _known(work: Work, found: OpenProvider, person: Vouched) -> tuple[UserIdentity | None, User | None]:
    """Somebody as the provider knows them, and the user that they are unless that one was removed."""
    identity = await repository.identity(work, found.provider.id, person.subject)
    return identity, None if identity is None else await find_user(work, identity.user_id)


async def _welcome(
    call: CallContext, work: Work, found: OpenProvider, person: Vouched, former: UserIdentity | None
) -> tuple[UserIdentity, User]:
    """Link somebody who was provisioned, or make a user. Whose user was removed (`former`) comes back by being provisioned again."""
    linked = await repository.linkable(work, person.keys, person.email)
    user = None if linked is None else await find_user(work, linked)
    if user is None and (former is not None or not found.jit):
        raise no_account("nobody is known by this identity" if former is None else "the user was removed")
    if former is not None:
        await work.session.delete(former)
        await work.flush()
    by_jit = user is None
    if user is None:
        user = await _newcomer(call, work, found, person)
    provider_id, now = found.provider.id, clock.now()
    identity = UserIdentity(
        tenant_id=found.tenant_id, provider_id=provider_id, subject=person.subject, user_id=user.id, jit=by_jit, created_at=now
    )
    work.session.add(identity)
    return identity, user


async def _newcomer(call: CallContext, work: Work, found: OpenProvider, person: Vouched) -> User:
    user = await add_user(
        work,
        role=_first_role(call, found, person),
        external_subject=f"{found.provider.id}|{person.subject}",
        email=person.email,
        email_verified=person.email is not None,
        display_name=person.display_name,
    )
    await audit.write(call, work, EventType.JIT_USER_CREATED, {"provider_id": found.provider.id, "user_id": user.id, "role": user.role})
    return user


def _first_role(call: CallContext, found: OpenProvider, person: Vouched) -> Role:
    """Where raising somebody needs a second admin, newcomers begin as readers, as the invited do: one admin alone sets up a provider."""
    if call.of(Settings).identity.identity_dual_control_required:
        return Role.READER
    return person.role or Role(found.provider.default_role)


async def _follow(call: CallContext, work: Work, user: User, person: Vouched) -> None:
    """Somebody who came by the provider is called and may do what the provider says."""
    if person.role is not None:  # first: its lock is taken before a row of the person's wherever both are
        await _put_role(call, work, user, person.role)
    told = {"display_name": person.display_name, "email": person.email}
    changed = {name: value for name, value in told.items() if value is not None and value != getattr(user, name)}
    for name, value in changed.items():
        setattr(user, name, value)
    if changed:
        user.email_verified = user.email_verified or "email" in changed
        user.version += 1
        await announce(work, PERSON, f"{work.tenant_id}/{user.id}")


async def _put_role(call: CallContext, work: Work, user: User, role: Role) -> None:
    """The role that the provider's word stands for now. A second admin is not at hand, so where one is needed nobody is raised."""
    user_id, held, wanted = user.id, await resolved(work, Role(user.role), user.custom_role_id), ACTIONS_OF[role]
    second_needed = call.of(Settings).identity.identity_dual_control_required
    if (held.role, held.custom_role) == (role, None) or (second_needed and not wanted <= held.actions):
        return
    try:
        async with work.session.begin_nested(), an_admin_remains(work):
            await renew(work, user)
            await put_role(work, user, Assigned(role, None, wanted))
    except ApiError as error:
        if error.code is not ErrorCode.CONFLICT:
            raise
        await find_user(work, user_id)  # fills `user` anew: the last admin stays one, whatever the provider says
        return
    about = {"user_id": user_id, "previous_role": held.role.value, "previous_custom_role": held.custom_role, "role": role.value}
    await audit.write(call, work, EventType.IDENTITY_ROLE_CHANGED, about)
