"""What is kept of accounts: no secret anywhere, and nothing for ever."""

import pytest

from nexusrag.identity.accounts import jobs
from tests.identity.accounts.people import PASSWORD, Account, account, invitation, login, new_address, register
from tests.support.api import Api
from tests.support.behind import rows

NEW = "staple battery horse"


async def test_no_password_and_no_token_is_kept_with_answers_or_on_record(api: Api) -> None:
    admin, email = await api.person(), new_address()
    admin.client.headers["Idempotency-Key"] = "once"
    made = await invitation(admin, email)
    client = api.anonymous()
    client.headers["Idempotency-Key"] = "once"
    somebody = Account(api, email, (await register(client, email, made["token"])).json()["data"])
    somebody.client = client
    device = await somebody.login()
    secrets = [
        PASSWORD,
        NEW,
        made["token"],
        *(one.tokens[name] for one in (somebody, device) for name in ("access_token", "refresh_token")),
    ]
    secrets.append((await somebody.refresh()).json()["data"]["refresh_token"])
    await somebody.refresh()
    await login(client, email, PASSWORD + "?")
    assert (await device.post("/v1/auth/password", json={"current_password": PASSWORD, "new_password": NEW})).status_code in (204, 401)
    kept = ""
    for (name,) in [tuple(row.values()) for row in await rows(api, "select tablename::text from pg_tables where schemaname = 'public'")]:
        kept += str(await rows(api, f"select to_jsonb(t)::text as row from {name} t"))
    kept += str(await rows(api, "select convert_from(body, 'UTF8') as body from idempotency_keys where tenant_id = $1", admin.tenant))
    assert email in kept, "the search sees what is there"
    assert [secret for secret in secrets if secret in kept or secret.rsplit("_", 1)[-1] in kept] == []


@pytest.mark.parametrize(("days", "left"), [(29, True), (31, False)])
async def test_what_ended_is_swept_a_month_later(api: Api, days: int, left: bool) -> None:
    admin = await api.person()
    somebody = await account(api, admin=admin)
    await invitation(admin, new_address())
    await somebody.login()
    ago = f"now() - interval '{days} days'"
    await rows(api, f"update auth_sessions set expires_at = {ago} where id = $1", somebody.tokens["session_id"])
    await rows(
        api,
        f"update refresh_tokens set expires_at = {ago} where tenant_id = $1 and session_id <> $2",
        admin.tenant,
        somebody.tokens["session_id"],
    )
    await rows(api, f"update invitations set revoked_at = {ago} where tenant_id = $1 and accepted_at is null", admin.tenant)
    await jobs.sweep(api.resources)
    counts = [
        len(await rows(api, f"select 1 from {table} where tenant_id = $1", admin.tenant))
        for table in ("auth_sessions", "refresh_tokens", "invitations")
    ]
    assert counts == ([2, 2, 2] if left else [1, 0, 1])


async def test_counts_of_guesses_are_forgotten_after_a_day(api: Api) -> None:
    await login(api.anonymous(), new_address(), "whatever it is")
    await rows(api, "update login_attempts set updated_at = now() - interval '25 hours'")
    await jobs.sweep(api.resources)
    assert await rows(api, "select 1 from login_attempts") == []
