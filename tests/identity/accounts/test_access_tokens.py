"""Access tokens: ours alone are read, and what they may do is decided by the login behind them, at every request."""

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jwt
from joserfc.jwk import RSAKey

from nexusrag.identity.credentials import repository as credentials
from nexusrag.identity.credentials.access_tokens import AccessTokens
from nexusrag.infra.changes import Changes
from nexusrag.infra.database import Work
from nexusrag.kernel import clock
from tests.identity.accounts.people import account
from tests.support.api import Api, error_of
from tests.support.behind import rows
from tests.support.installation import Servers, http, serving
from tests.support.processes import until

UNKNOWN = ("AUTH_UNAUTHORIZED", 401)
HEADER = {"alg": "HS256", "typ": "at+jwt"}


def secret(servers: Servers) -> str:
    return servers.settings.identity.auth_jwt_secret.get_secret_value()


def claims(**changes: Any) -> dict[str, Any]:
    now = int(clock.now().timestamp())
    whole = {"iss": "nexusrag", "aud": "nexusrag", "sub": "usr_a", "sid": "ses_a", "tid": "t1", "iat": now, "exp": now + 900, **changes}
    return {name: value for name, value in whole.items() if value is not None}


def signed(key: str, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token as anybody with `key` could make it, by hand: no library stands in the way."""
    header = header or HEADER
    signing = f"{encoded(header)}.{encoded(claims(**changes))}"
    digest = hmac.digest(key.encode(), signing.encode(), header["alg"].replace("HS", "sha"))
    return f"{signing}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_what_was_signed_is_read(servers: Servers) -> None:
    tokens = AccessTokens(servers.settings.identity)
    read = tokens.read(tokens.sign("t1", "usr_a", "ses_a"))
    assert read is not None
    assert (read.tid, read.sub, read.sid, read.exp - read.iat, read.expired) == ("t1", "usr_a", "ses_a", tokens.ttl_s, False)
    assert tokens.read(signed(secret(servers))) is not None, "the forgeries below fail for their faults alone"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "other"}, {"iss": None}, {"aud": "other"}, {"aud": ["nexusrag"]}, {"aud": None}, {"sub": None}, {"sub": 5},
        {"sid": None}, {"sid": ["ses_a"]}, {"tid": None}, {"exp": None}, {"exp": "9999999999"}, {"exp": True}, {"exp": 9e9},
        {"iat": None}, {"iat": 9_999_999_998, "exp": 9_999_999_999}, {"exp": 0}, {"nbf": 9_999_999_999}, {"scope": "admin"},
    ],
    ids=str,
)  # fmt: skip
def test_claims_that_are_not_ours_are_refused(servers: Servers, changes: dict[str, Any]) -> None:
    assert AccessTokens(servers.settings.identity).read(signed(secret(servers), **changes)) is None


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS512", "typ": "at+jwt"}, {"alg": "HS384", "typ": "at+jwt"}, {"alg": "HS256"}, {"alg": "HS256", "typ": "JWT"},
        {**HEADER, "kid": "1"}, {**HEADER, "jku": "https://example.org/keys"}, {**HEADER, "jwk": {"kty": "oct", "k": "AA"}},
        {**HEADER, "x5u": "https://example.org/key"}, {**HEADER, "crit": ["exp"], "exp": 5}, {**HEADER, "cty": "JWT"},
        {**HEADER, "b64": True}, {**HEADER, "crit": 1}, {**HEADER, "crit": [{}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_header_of_anothers_making_is_refused_though_the_signature_is_right(servers: Servers, header: dict[str, Any]) -> None:
    assert AccessTokens(servers.settings.identity).read(signed(secret(servers), header)) is None


def test_signatures_of_others_and_none_are_refused(servers: Servers) -> None:
    tokens = AccessTokens(servers.settings.identity)
    good = signed(secret(servers))
    head, body, signature = good.split(".")
    forged = [
        signed("another secret of thirty-two bytes"),
        jwt.encode({**HEADER, "alg": "RS256"}, claims(), RSAKey.import_key(_rsa()), ["RS256"]),
        f"{encoded({'alg': 'none', 'typ': 'at+jwt'})}.{body}.", f"{head}.{body}.", f"{head}.{body}", f"{head}..{signature}",
        f"{head}.{encoded(claims(sub='usr_b'))}.{signature}", f"{good}.", f".{good}", good[:-4] + "AAAA", good + "A" * 4000,
        f"{encoded([HEADER])}.{body}.{signature}", f"{encoded('x')}.{body}.{signature}", f"é.{body}.{signature}", "..", "", "a.b.c",
        f"{base64.urlsafe_b64encode(b'[' * 1200).decode()}.{body}.{signature}",
    ]  # fmt: skip
    assert [token for token in forged if tokens.read(token) is not None] == []


def _rsa() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def test_a_token_must_name_its_own_login(api: Api) -> None:
    """Even under our signature, a token of one person with the login of another opens nothing."""
    somebody, other = await account(api), await account(api)
    right = {"sub": somebody.user_id, "sid": somebody.tokens["session_id"], "tid": somebody.tenant}
    key = secret(api.servers)
    for changes in ({}, {"sid": other.tokens["session_id"]}, {"sub": other.user_id}, {"tid": other.tenant}, {"sid": "ses_none"}):
        async with http(api.base_url, signed(key, **(right | changes))) as client:
            answer = await client.get("/v1/auth/me")
        assert (answer.status_code == 200) if not changes else error_of(answer) == UNKNOWN, changes


async def test_an_expired_token_says_so_and_a_forged_one_does_not(api: Api) -> None:
    somebody = await account(api)
    now = int(clock.now().timestamp())
    right = {"sub": somebody.user_id, "sid": somebody.tokens["session_id"], "tid": somebody.tenant, "iat": now - 901, "exp": now - 1}
    async with http(api.base_url, signed(secret(api.servers), **right)) as client:
        assert error_of(await client.get("/v1/auth/me")) == ("AUTH_EXPIRED_KEY", 401)
    async with http(api.base_url, signed("x" * 32, **right)) as client:
        assert error_of(await client.get("/v1/auth/me")) == UNKNOWN


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("update auth_sessions set revoked_at = now() where tenant_id = $1", "AUTH_REVOKED_KEY"),
        ("update auth_sessions set expires_at = now() where tenant_id = $1", "AUTH_EXPIRED_KEY"),
        ("delete from auth_sessions where tenant_id = $1", "AUTH_UNAUTHORIZED"),
        ("update users set status = 'disabled' where tenant_id = $1", "AUTH_UNAUTHORIZED"),
        ("update tenants set status = 'suspended' where id = $1", "AUTH_UNAUTHORIZED"),
    ],
)
async def test_a_token_is_worth_what_its_login_is(api: Api, change: str, code: str) -> None:
    somebody = await account(api)
    await rows(api, change, somebody.tenant)
    assert error_of(await somebody.get("/v1/corpora")) == (code, 401)


async def test_what_a_person_may_do_is_not_read_off_the_token(api: Api) -> None:
    somebody = await account(api, "admin")
    await rows(api, "update users set role = 'reader' where tenant_id = $1", somebody.tenant)
    assert error_of(await somebody.post("/v1/corpora", json={"name": "x"})) == ("AUTH_FORBIDDEN", 403)


async def test_a_login_seen_lately_is_not_looked_up_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody = await account(api)
    looked_up: list[str] = []
    find = credentials.find_session

    async def counted(work: Work, session_id: str) -> Any:
        looked_up.append(session_id)
        return await find(work, session_id)

    monkeypatch.setattr(credentials, "find_session", counted)
    assert api.resources.get(Changes).live
    for _ in range(5):
        assert (await somebody.get("/v1/corpora")).status_code == 200
    assert looked_up == [somebody.tokens["session_id"]]


@pytest.mark.slow
async def test_an_ended_login_is_refused_by_every_process_within_a_second(servers: Servers) -> None:
    settings = servers.with_env(AUTH_CACHE_TTL_S="300")
    async with serving(settings) as (app, url), serving(settings) as (_, elsewhere):
        api = Api(servers, app, url)
        somebody = await account(api)
        device = await somebody.login()
        async with http(elsewhere, device.tokens["access_token"]) as client:
            for answer in (await device.get("/v1/corpora"), await client.get("/v1/corpora")):
                assert answer.status_code == 200
            assert (await somebody.delete(f"/v1/auth/sessions/{device.tokens['session_id']}")).status_code == 204
            await refused_soon(client)
            assert error_of(await device.get("/v1/corpora")) == ("AUTH_REVOKED_KEY", 401)
        assert (await somebody.get("/v1/corpora")).status_code == 200
        await api.close()


async def refused_soon(client: Any) -> None:
    async def refused() -> bool:
        answer = await client.get("/v1/corpora")
        return answer.status_code == 401 and error_of(answer) == ("AUTH_REVOKED_KEY", 401)

    await until(refused, within_s=5)
