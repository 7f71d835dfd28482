"""All SQL of credentials: looked up before it is known whose they are."""

from typing import Any

from nexusrag.infra.database import Work
from nexusrag.kernel.principal import Credential

_FIND = {
    Credential.API_KEY: "select * from auth_key($1)",
    Credential.SESSION: "select * from auth_session(null, $1)",
    Credential.SCIM: "select * from auth_scim($1)",
}
_FIND_AGAIN = {
    Credential.API_KEY: "select a.* from api_keys c cross join lateral auth_key(c.hash) a where c.tenant_id = $1 and c.id = $2",
    Credential.SESSION: "select * from auth_session($2, null) where tenant_id = $1",
    Credential.SCIM: "select a.* from scim_tokens c cross join lateral auth_scim(c.hash) a where c.tenant_id = $1 and c.id = $2",
}
_TABLES = {Credential.API_KEY: "api_keys", Credential.SESSION: "auth_sessions", Credential.SCIM: "scim_tokens"}


async def find(work: Work, kind: Credential, key_hash: bytes) -> Any:
    """The credential with this hash, with its person and tenant; None for an unknown one."""
    return await work.raw.fetchrow(_FIND[kind], key_hash)


async def find_session(work: Work, session_id: str) -> Any:
    """The login with this id, with its person and tenant, or None."""
    return await work.raw.fetchrow("select * from auth_session($1, null)", session_id)


async def find_again(work: Work, kind: Credential, credential_id: str) -> Any:
    """A credential of the transaction's tenant as it is now, with its person; None when it is gone."""
    return await work.raw.fetchrow(_FIND_AGAIN[kind], work.tenant_id, credential_id)


async def find_person(work: Work, user_id: str) -> Any:
    """Somebody of the transaction's tenant, with what their tenant has; None for who is disabled or gone."""
    return await work.raw.fetchrow("select * from auth_person($1, $2) where user_status = 'active'", work.tenant_id, user_id)


async def touch(work: Work, kind: Credential, credential_id: str, key_hash: bytes | None = None) -> None:
    """It was used now. With its hash under the present pepper it is kept under that from now on."""
    await work.raw.execute(
        f"update {_TABLES[kind]} set last_used_at = now(), hash = coalesce($3, hash) where tenant_id = $1 and id = $2",
        work.tenant_id,
        credential_id,
        key_hash,
    )


async def note_expiry(work: Work, key_id: str) -> bool:
    """True for the first who asks since the key has expired."""
    noted = await work.raw.fetchval(
        "update api_keys set expiry_noted = true where tenant_id = $1 and id = $2 and not expiry_noted returning id", work.tenant_id, key_id
    )
    return noted is not None


async def end_sessions(work: Work, user_id: str) -> None:
    """The person is logged out everywhere, for good: enabling them again brings no old login back."""
    await work.raw.execute(
        "update auth_sessions set revoked_at = now() where tenant_id = $1 and user_id = $2 and revoked_at is null", work.tenant_id, user_id
    )


async def revoke_keys(work: Work, user_id: str) -> None:
    """All keys of somebody who is gone: they take no place among the tenant's keys, and hold no role."""
    await work.raw.execute(
        "update api_keys set revoked_at = now(), custom_role_id = null where tenant_id = $1 and user_id = $2 and revoked_at is null",
        work.tenant_id,
        user_id,
    )
