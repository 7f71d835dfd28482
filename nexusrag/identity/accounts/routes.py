"""HTTP face of accounts: /v1/auth and /v1/admin/identity/invitations."""

from typing import Annotated

from fastapi import Query

from nexusrag.identity.accounts import gates
from nexusrag.identity.accounts.models import AuthSession, Invitation
from nexusrag.identity.accounts.schemas import (
    AuthTokens,
    InvitationCreate,
    InvitationMade,
    InvitationOut,
    Login,
    Me,
    PasswordChange,
    Refresh,
    Registration,
    SessionOut,
)
from nexusrag.identity.accounts.service import invite, login, password, refresh, register, sessions
from nexusrag.web.call import Call, Loaded
from nexusrag.web.envelope import Listed
from nexusrag.web.router import Router

router = Router("auth", tag="Accounts")
invitations = Router("admin/identity/invitations", tag="Accounts")


@router.post("/register", gate=gates.REGISTER, status_code=201)
async def register_account(call: Call, body: Registration) -> AuthTokens:
    """Make an account, by invitation or, where anybody may register, with a tenant of its own, and log in.

    Refused with AUTH_FORBIDDEN where registration is closed or needs an invitation, with AUTH_UNAUTHORIZED for an invitation that
    cannot be used.
    """
    return await register.register(call, body)


@router.post("/login", gate=gates.LOGIN)
async def log_in(call: Call, body: Login) -> AuthTokens:
    """Log in with e-mail address and password.

    Every failure is AUTH_UNAUTHORIZED in the same words; after many, RATE_LIMITED with `Retry-After`. A password that fits in
    several tenants gets CONFLICT with `details.tenants`: name one of them.
    """
    return await login.login(call, body)


@router.post("/refresh", gate=gates.REFRESH)
async def refresh_tokens(call: Call, body: Refresh) -> AuthTokens:
    """Get the next pair of tokens for a refresh token, which is good for once: using one twice ends the session."""
    return await refresh.refresh(call, body)


@router.post("/logout", gate=gates.LOGOUT, status_code=204)
async def log_out(call: Call) -> None:
    """End the session that the request comes with: its tokens are refused everywhere within a second, and its streams end."""
    await sessions.logout(call)


@router.get("/me", gate=gates.ME)
async def get_me(call: Call) -> Me:
    """Who is calling, with which credential."""
    return await sessions.me(call)


@router.post("/password", gate=gates.CHANGE_PASSWORD, status_code=204)
async def change_password(call: Call, body: PasswordChange) -> None:
    """Change one's password, with the old one. All other sessions of the person end; API keys stay."""
    await password.change_password(call, body)


@router.get("/sessions", gate=gates.LIST_SESSIONS)
async def list_sessions(call: Call) -> list[SessionOut]:
    """List one's own sessions that are good, newest first."""
    return await sessions.list_sessions(call)


@router.delete("/sessions/{auth_session_id}", gate=gates.END_SESSION, status_code=204)
async def end_session(call: Call, session: Loaded[AuthSession]) -> None:
    """End one of one's own sessions."""
    await sessions.end_session(call, session)


@invitations.post("", gate=gates.INVITE, status_code=201)
async def create_invitation(call: Call, body: InvitationCreate) -> InvitationMade:
    """Invite an address into the tenant. The token is shown this once; pass it on to the person."""
    return await invite.invite(call, body)


@invitations.get("", gate=gates.LIST_INVITATIONS)
async def list_invitations(
    call: Call, limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: str | None = None
) -> Listed[InvitationOut]:
    """List the tenant's invitations, newest first; `meta.page` says whether there are more."""
    return await invite.list_invitations(call, limit, cursor)


@invitations.post("/{invitation_id}/revoke", gate=gates.REVOKE_INVITATION)
async def revoke_invitation(call: Call, invitation: Loaded[Invitation]) -> InvitationOut:
    """Revoke an invitation that was not accepted yet."""
    return await invite.revoke(call, invitation)
