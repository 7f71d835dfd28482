"""Asking again about a caller who is known already: every kind of credential, and the one that is none."""

from typing import Any

import pytest

from nexusrag.identity.credentials.checks import DEV_CREDENTIAL
from nexusrag.identity.credentials.facade import still_good
from nexusrag.infra.database import Database
from nexusrag.kernel.actions import Role
from nexusrag.kernel.ids import new_id
from nexusrag.kernel.principal import Credential, Principal, of_role
from tests.support.api import Api, Person
from tests.support.behind import rows


async def good(api: Api, principal: Principal, **env: str) -> bool:
    settings = api.servers.with_env(**env)
    async with api.resources.get(Database).work(principal.tenant_id) as work:
        return await still_good(work, principal, settings.auth)


def known(person: Person, credential_id: str, kind: Credential = Credential.API_KEY) -> Principal:
    return Principal(person.tenant, person.user_id, Role.ADMIN, credential_id, credential=kind)


@pytest.mark.parametrize(
    ("kind", "table", "end"),
    [
        (Credential.API_KEY, "api_keys", "revoked_at = now()"), (Credential.API_KEY, "api_keys", "active = false"),
        (Credential.API_KEY, "api_keys", "expires_at = now()"), (Credential.SESSION, "auth_sessions", "revoked_at = now()"),
        (Credential.SESSION, "auth_sessions", "expires_at = now()"), (Credential.SCIM, "scim_tokens", "revoked_at = now()"),
    ],
)  # fmt: skip
async def test_a_credential_is_good_until_it_ends(api: Api, kind: Credential, table: str, end: str) -> None:
    person, other = await api.person(), await api.person()
    credential_id = person.key_id if kind is Credential.API_KEY else await made(api, person, kind)
    principal = known(person, credential_id, kind)
    assert await good(api, principal)
    assert not await good(api, known(other, credential_id, kind)), "not in another tenant"
    await rows(api, f"update {table} set {end} where tenant_id = $1", person.tenant)
    assert not await good(api, principal)


async def made(api: Api, person: Person, kind: Credential) -> str:
    credential_id = new_id("credential")
    statement: Any = (
        "insert into auth_sessions (tenant_id, id, user_id, kind, expires_at) values ($1, $2, $3, 'password', now() + interval '1 day')"
        if kind is Credential.SESSION
        else "insert into scim_tokens (tenant_id, id, prefix, hash) values ($1, $2, $3, convert_to($2, 'UTF8'))"
    )
    await rows(api, statement, person.tenant, credential_id, person.user_id)
    return credential_id


async def test_development_has_no_credential_to_lose(api: Api) -> None:
    person = await api.person()
    caller = of_role(person.tenant, "usr_dev", Role.ADMIN, DEV_CREDENTIAL)
    assert await good(api, caller, AUTH_DEV_BYPASS="true")
    assert not await good(api, caller)
