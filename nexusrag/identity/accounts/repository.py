"""All SQL of accounts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, tuple_

from nexusrag.identity.accounts.models import AuthSession, Invitation
from nexusrag.infra.database import Work
from nexusrag.kernel.errors import not_found
from nexusrag.web.call import CallContext

# Counts a guess unless its key is blocked. From the p_free'th on each one blocks the next, for twice as long every time.
_ATTEMPT = (
    "insert into login_attempts as a (key, attempts, blocked_until, updated_at) values ($1, 1, clock_timestamp(), clock_timestamp()) "
    "on conflict (key) do update set updated_at = clock_timestamp(), "
    "attempts = case when a.updated_at < clock_timestamp() - make_interval(secs => $4) then 1 else a.attempts + 1 end, "
    "blocked_until = case when a.updated_at < clock_timestamp() - make_interval(secs => $4) or a.attempts + 1 < $2 then clock_timestamp() "
    "else clock_timestamp() + make_interval(secs => least($3::float8, 2.0 ^ least(a.attempts + 1 - $2, 20))) end "
    "where a.blocked_until <= clock_timestamp() returning true"
)
_BLOCKED = "select extract(epoch from blocked_until - clock_timestamp())::float8 from login_attempts where key = $1"
_REFRESH = (
    "select t.session_id, t.used_at, t.expires_at <= now() as expired, s.revoked_at as ended_at, s.user_id "
    "from refresh_tokens t join auth_sessions s on s.tenant_id = t.tenant_id and s.id = t.session_id "
    "where t.tenant_id = $1 and t.id = $2 for update of t"
)
_LOG_IN = (
    "update users set last_login_at = now(), password_hash = coalesce($4, password_hash) "
    "where tenant_id = $1 and id = $2 and password_hash = $3 and status = 'active' and deleted_at is null "
    "and exists (select 1 from tenants where id = $1 and status = 'active') returning id"
)
_ACCEPT = (
    "update invitations set accepted_at = now(), accepted_by = $4 where tenant_id = $1 and id = $2 and lower(email) = lower($3) "
    "and accepted_at is null and revoked_at is null and expires_at > now() "
    "and exists (select 1 from tenants where id = $1 and status = 'active') returning role, custom_role_id, invited_by"
)
_INVITED = (
    "select lower(email) = lower($3) and accepted_at is null and revoked_at is null and expires_at > now() "
    "from invitations where tenant_id = $1 and id = $2"
)
_TAKEN = "select exists (select 1 from users where tenant_id = $1 and lower(email) = lower($2) and deleted_at is null)"


@dataclass(frozen=True, slots=True)
class Account:
    """One account that an address may belong to."""

    tenant_id: str
    user_id: str
    password_hash: str
    good: bool  # neither disabled nor of a suspended tenant
    from_here: bool  # logged in to from this network address before


async def accounts_of(work: Work, email: str, tenant_id: str | None, address: str | None) -> tuple[str, list[Account]]:
    """The address as the database compares it, and its accounts in all tenants or in one, oldest first."""
    rows = await work.raw.fetch(
        "select lower($1) as folded, a.* from (select 1) one left join auth_password($1, $2, $3) a on true", email, tenant_id, address
    )
    found = [row for row in rows if row["user_id"] is not None]
    return rows[0]["folded"], [
        Account(
            row["tenant_id"],
            row["user_id"],
            row["password_hash"],
            row["user_status"] == "active" and row["tenant_status"] == "active",
            row["from_here"],
        )
        for row in found
    ]


async def attempt(work: Work, key: bytes, *, free: int, longest_s: float, window_s: float) -> float:
    """Count a guess under `key`; seconds to wait when it may not be made now, and was not counted."""
    if await work.raw.fetchval(_ATTEMPT, key, free, longest_s, window_s):
        return 0
    return max(float(await work.raw.fetchval(_BLOCKED, key) or 0), 0.001)


async def forget_attempts(work: Work, key: bytes) -> None:
    await work.raw.execute("delete from login_attempts where key = $1", key)


async def log_in(work: Work, account: Account, rehashed: str | None) -> bool:
    """Note the login, and the password under newer parameters; False when the account has changed since it was looked up."""
    return await work.raw.fetchval(_LOG_IN, account.tenant_id, account.user_id, account.password_hash, rehashed) is not None


async def password_of(work: Work, user_id: str) -> Any:
    """`password_hash` of a person, and their address as the database compares it (`folded`)."""
    return await work.raw.fetchrow(
        "select lower(email) as folded, password_hash from users where tenant_id = $1 and id = $2", work.tenant_id, user_id
    )


async def change_password(work: Work, user_id: str, old_hash: str, new_hash: str) -> bool:
    """False when the password is not the old one any more."""
    changed = await work.raw.fetchval(
        "update users set password_hash = $4, updated_at = now() where tenant_id = $1 and id = $2 and password_hash = $3 returning id",
        work.tenant_id,
        user_id,
        old_hash,
        new_hash,
    )
    return changed is not None


async def profile(work: Work, user_id: str) -> Any:
    """What is shown of a person; None for who has no row, as in development."""
    return await work.raw.fetchrow(
        "select display_name, created_at, last_login_at from users where tenant_id = $1 and id = $2", work.tenant_id, user_id
    )


async def open_session(work: Work, session_id: str, user_id: str, expires_at: datetime, address: str | None, agent: str | None) -> None:
    await work.raw.execute(
        "insert into auth_sessions (tenant_id, id, user_id, kind, expires_at, last_used_at, ip_address, user_agent) "
        "values ($1, $2, $3, 'password', $4, now(), $5, $6)",
        work.tenant_id, session_id, user_id, expires_at, address, agent,
    )  # fmt: skip


async def add_refresh_token(work: Work, token_id: str, session_id: str, token_hash: bytes, expires_at: datetime) -> None:
    await work.raw.execute(
        "insert into refresh_tokens (tenant_id, id, session_id, hash, expires_at) values ($1, $2, $3, $4, $5)",
        work.tenant_id, token_id, session_id, token_hash, expires_at,
    )  # fmt: skip


async def find_refresh_token(work: Work, hashes: Iterable[bytes]) -> Any:
    """Tenant, id and session of a refresh token kept under one of these, whosever it is."""
    return await _first(work, "select * from auth_refresh($1)", hashes)


async def hold_refresh_token(work: Work, token_id: str) -> Any:
    """The token with its session, held against others until the transaction ends."""
    return await work.raw.fetchrow(_REFRESH, work.tenant_id, token_id)


async def use_refresh_token(work: Work, token_id: str, session_id: str, expires_at: datetime) -> None:
    """It is used up, and its session lives on."""
    await work.raw.execute("update refresh_tokens set used_at = now() where tenant_id = $1 and id = $2", work.tenant_id, token_id)
    await work.raw.execute(
        "update auth_sessions set expires_at = $3, last_used_at = now() where tenant_id = $1 and id = $2",
        work.tenant_id,
        session_id,
        expires_at,
    )


async def end_session(work: Work, session_id: str) -> bool:
    """False when it had ended before."""
    ended = await work.raw.fetchval(
        "update auth_sessions set revoked_at = now() where tenant_id = $1 and id = $2 and revoked_at is null returning id",
        work.tenant_id,
        session_id,
    )
    return ended is not None


async def end_other_sessions(work: Work, user_id: str, kept: str) -> int:
    """How many logins of the person ended: all but one."""
    rows = await work.raw.fetch(
        "update auth_sessions set revoked_at = now() "
        "where tenant_id = $1 and user_id = $2 and id <> $3 and revoked_at is null returning id",
        work.tenant_id,
        user_id,
        kept,
    )
    return len(rows)


async def load_session(call: CallContext, session_id: str) -> AuthSession:
    """A login of the caller's own, or not found."""
    call.resource_id = session_id
    found: AuthSession | None = await call.session.scalar(
        select(AuthSession).where(
            AuthSession.tenant_id == call.tenant_id, AuthSession.id == session_id, AuthSession.user_id == call.principal.subject_id
        )
    )
    if found is None:
        raise not_found("session")
    return found


async def sessions_of(work: Work, user_id: str, now: datetime) -> Sequence[AuthSession]:
    """Logins that are good, newest first."""
    statement = (
        select(AuthSession)
        .where(
            AuthSession.tenant_id == work.tenant_id,
            AuthSession.user_id == user_id,
            AuthSession.revoked_at.is_(None),
            AuthSession.expires_at > now,
        )
        .order_by(AuthSession.created_at.desc(), AuthSession.id)
        .limit(1000)
    )
    return (await work.session.scalars(statement)).all()


async def find_invitation(work: Work, hashes: Iterable[bytes]) -> Any:
    """Tenant and id of an invitation kept under one of these, whosever it is."""
    return await _first(work, "select * from auth_invitation($1)", hashes)


async def _first(work: Work, statement: str, hashes: Iterable[bytes]) -> Any:
    for one in hashes:
        row = await work.raw.fetchrow(statement, one)
        if row is not None:
            return row
    return None


async def is_invited(work: Work, invitation_id: str, email: str) -> bool:
    """Whether the invitation can be used, by this address."""
    return bool(await work.raw.fetchval(_INVITED, work.tenant_id, invitation_id, email))


async def accept_invitation(work: Work, invitation_id: str, email: str, user_id: str) -> Any:
    """Use the invitation up; its role and inviter, or None when it cannot be used, by this address or at all."""
    return await work.raw.fetchrow(_ACCEPT, work.tenant_id, invitation_id, email, user_id)


async def is_member(work: Work, email: str) -> bool:
    """Whether somebody of the tenant has this address."""
    return bool(await work.raw.fetchval(_TAKEN, work.tenant_id, email))


async def add_user(
    work: Work, user_id: str, email: str, display_name: str | None, role: str, custom_role: str | None, password_hash: str
) -> None:
    await work.raw.execute(
        "insert into users (tenant_id, id, external_subject, email, display_name, role, custom_role_id, password_hash, last_login_at) "
        "values ($1, $2, $2, $3, $4, $5, $6, $7, now())",
        work.tenant_id, user_id, email, display_name, role, custom_role, password_hash,
    )  # fmt: skip


async def open_tenant(work: Work, tenant_id: str, name: str) -> bool:
    """False when the installation has no home tenant yet."""
    return bool(await work.raw.fetchval("select tenant_open($1, $2)", tenant_id, name))


async def load_invitation(call: CallContext, invitation_id: str) -> Invitation:
    """An invitation of the tenant, held until the transaction ends, or not found."""
    call.resource_id = invitation_id
    found: Invitation | None = await call.session.scalar(
        select(Invitation).where(Invitation.tenant_id == call.tenant_id, Invitation.id == invitation_id).with_for_update()
    )
    if found is None:
        raise not_found("invitation")
    return found


async def invitations(work: Work, after: list[Any] | None, limit: int) -> Sequence[Invitation]:
    """Newest first, from behind the position `after` (created_at, id)."""
    statement = select(Invitation).where(Invitation.tenant_id == work.tenant_id)
    if after is not None:
        statement = statement.where(tuple_(Invitation.created_at, Invitation.id) < tuple_(*after))
    return (await work.session.scalars(statement.order_by(Invitation.created_at.desc(), Invitation.id.desc()).limit(limit))).all()


async def sweep(work: Work, keep_days: int, limit: int) -> int:
    """Delete what ended long ago, in all tenants; how many rows."""
    swept: int = await work.raw.fetchval("select accounts_sweep(make_interval(days => $1), $2)", keep_days, limit)
    return swept
