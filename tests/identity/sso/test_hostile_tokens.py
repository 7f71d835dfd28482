"""ID tokens of a hostile provider, each refused in the same words; and honest ones at the edge of what is accepted."""

import hashlib
import json
from collections.abc import Callable
from time import time
from typing import Any

import pytest

from tests.identity.sso.world import INVALID, World
from tests.support.api import error_of
from tests.support.behind import audited, count
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIDProvider, b64, ec, rsa, signed

Lie = Callable[[OpenIDProvider], None]


def claims(**values: Any) -> Lie:
    return lambda idp: idp.claims.update(values)


def header(**values: Any) -> Lie:
    return lambda idp: idp.header.update(values)


def token(make: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Lie:
    def lie(idp: OpenIDProvider) -> None:
        idp.sign = make

    return lie


def key(signing: Any, *published: dict[str, Any], **head: Any) -> Lie:
    def lie(idp: OpenIDProvider) -> None:
        idp.key, idp.published = signing, list(published)
        idp.header.update(head)

    return lie


def public(one: Any, **fields: Any) -> dict[str, Any]:
    return {**one.as_dict(private=False), **fields}


def at(**seconds: float) -> Lie:
    """Claims that are moments, by their distance from now."""
    return lambda idp: idp.claims.update({name: int(time() + distance) for name, distance in seconds.items()})


def payload(make: Callable[[dict[str, Any]], bytes | str]) -> Lie:
    return token(lambda head, body: signed(head, make(body), rsa()))


def audience(*values: str, **more: str) -> Lie:
    return claims(aud=list(values), **more)


def wide_modulus(size: int) -> dict[str, Any]:
    return {"kty": "RSA", "kid": "rsa", "n": b64(b"\xf1" * size), "e": "AQAB"}


def raw(head: bytes) -> Callable[[dict[str, Any], dict[str, Any]], str]:
    return lambda _, body: f"{b64(head)}.{b64(json.dumps(body))}.{b64(b'x' * 256)}"


PEM = rsa().as_pem(private=False)
TEN_YEARS = 10 * 365 * 86_400
LIES: dict[str, tuple[str, Lie]] = {  # the word in the tenant's log, and the lie
    # Whose word it is
    "no algorithm, no signature": (
        "unsupported_algorithm",
        token(lambda head, body: signed({**head, "alg": "none"}, json.dumps(body), None)),
    ),
    "no algorithm in another case": (
        "unsupported_algorithm",
        token(lambda head, body: signed({**head, "alg": "nOnE"}, json.dumps(body), None)),
    ),
    "no algorithm with a signature": ("unsupported_algorithm", header(alg="none")),
    "HS256 with the public key as secret": (
        "unsupported_algorithm",
        token(lambda head, body: signed({**head, "alg": "HS256"}, json.dumps(body), PEM)),
    ),
    "HS256 with the client secret": (
        "unsupported_algorithm",
        token(lambda head, body: signed({**head, "alg": "HS256"}, json.dumps(body), CLIENT_SECRET.encode())),
    ),
    "a symmetric key in the key set": (
        "unsupported_algorithm",
        lambda idp: (
            idp.published.append({"kty": "oct", "kid": "oct", "k": b64(b"0" * 32)}),
            token(lambda head, body: signed({"alg": "HS256", "kid": "oct"}, json.dumps(body), b"0" * 32))(idp),
        )[1],
    ),
    "the token brings its key": (
        "a header that is not accepted",
        token(lambda head, body: signed({**head, "alg": "ES256", "jwk": public(ec()), "kid": "own"}, json.dumps(body), ec())),
    ),
    "the token says where its key is": ("a header that is not accepted", header(jku="https://evil.example/keys")),
    "the token says where its certificate is": ("a header that is not accepted", header(x5u="https://evil.example/cert")),
    "the token brings a certificate": ("a header that is not accepted", header(x5c=["MIIB"])),
    "a critical header that nobody knows": ("unsupported_header", header(crit=["exp"], exp=1)),
    "a critical header that is known": ("a header that is not accepted", header(crit=["b64"], b64=True)),
    "a payload that is not encoded": ("missing_crit_header", header(b64=False)),
    "an elliptic algorithm with an RSA key": (
        "no key fits",
        lambda idp: setattr(idp, "sign", lambda head, body: signed({**head, "alg": "ES256", "kid": "rsa"}, json.dumps(body), ec())),
    ),
    "an RSA algorithm with an elliptic key": ("no key fits", key(rsa(), public(ec(), kid="rsa"))),
    "another algorithm than the key is for": ("no key fits", key(rsa(), public(rsa(), alg="PS256"))),
    "an algorithm for another curve": ("invalid_key_curve", key(ec(), public(ec("P-384", "ec")))),
    "an algorithm that we do not take": ("unsupported_algorithm", header(alg="ES256K")),
    "an algorithm that nobody knows": ("unsupported_algorithm", header(alg="RS1")),
    "no algorithm named": ("missing_algorithm", header(alg=None)),
    "an algorithm that is a list": ("invalid_header_value", header(alg=["RS256"])),
    "signed by another key": ("signature", token(lambda head, body: signed(head, json.dumps(body), rsa("other")))),
    "signature taken away": ("signature", token(lambda head, body: signed(head, json.dumps(body), rsa()).rpartition(".")[0] + ".")),
    "another payload under a good signature": (
        "signature",
        token(
            lambda head, body: signed(head, json.dumps(body), rsa()).replace(
                f".{b64(json.dumps(body))}.", f".{b64(json.dumps(body | {'sub': 'boss'}))}."
            )
        ),
    ),
    "a key that nobody published": ("no key fits", key(rsa("other"), public(rsa()))),
    "no key id, several keys": ("several keys fit", key(rsa(), public(rsa()), public(rsa("other")), kid=None)),
    "one key id, several keys": ("several keys fit", key(rsa(), public(rsa("other"), kid="rsa"), public(rsa()))),
    "a key id that is a number": ("invalid_header_value", header(kid=7)),
    "no keys": ("no key fits", key(rsa())),
    "a key for encryption": ("no key fits", key(rsa(), public(rsa(), use="enc"))),
    "a key that is too short": ("the key is too short or too long", key(rsa(), wide_modulus(64))),
    "a short key in a long coat": (
        "the key is too short or too long",
        key(rsa(), {**wide_modulus(64), "n": b64(bytes(192) + b"\xf1" * 64)}),
    ),
    "a key that is too long": ("the key is too short or too long", key(rsa(), wide_modulus(1100))),
    "a key without its numbers": ("the key cannot be read", key(rsa(), {"kty": "RSA", "kid": "rsa"})),
    "a key of wrong types": ("the key cannot be read", key(rsa(), {"kty": "RSA", "kid": "rsa", "n": 5, "e": ["AQAB"]})),
    # What kind of thing it is
    "an access token": ("another type of token", header(typ="at+jwt")),
    "a logout token": ("another type of token", header(typ="logout+jwt")),
    "a type that is a number": ("invalid_header_value", header(typ=5)),
    "a header that is too long": ("exceeded_size", header(pad="x" * 600)),
    "a header that is a list": ("TypeError", token(raw(b'["alg"]'))),
    "a header that is no JSON": ("decode_error", token(raw(b"{"))),
    "a header that is deep": ("decode_error", token(raw(b'{"alg":"RS256","x":' + b"[" * 350))),
    "an encrypted token": ("no signed token", token(lambda *_: "a.b.c.d.e")),
    "no token at all": ("no signed token", token(lambda *_: "token")),
    "a token in another serialisation": ("no signed token", token(lambda head, body: {"payload": b64(json.dumps(body)), "signatures": []})),
    "a token that is a number": ("no signed token", token(lambda *_: 5)),
    "a token beyond ASCII": ("no signed token", token(lambda head, body: signed(head, json.dumps(body), rsa()) + "ÿ")),
    "claims that are no JSON": ("JSONDecodeError", payload(lambda _: b"{")),
    "claims that are a list": ("no claims", payload(lambda body: json.dumps([body]))),
    "claims that are deep": ("JSONDecodeError", payload(lambda _: b"[" * 100_000)),
    "claims in another encoding": ("JSONDecodeError", payload(lambda body: json.dumps(body).encode("utf-16"))),
    "a token that is too large": ("exceeded_size", claims(groups=["g" * 100] * 5000)),
    # By whom, for whom, about whom
    "no issuer": ("missing_claim: iss", claims(iss=None)),
    "the issuer with a slash": ("invalid_claim: iss", lambda idp: idp.claims.update(iss=f"{idp.url}/")),
    "another issuer": ("invalid_claim: iss", claims(iss="https://evil.example")),
    "several issuers": ("invalid_claim: iss", lambda idp: idp.claims.update(iss=[idp.url])),
    "no audience": ("missing_claim: aud", claims(aud=None)),
    "another audience": ("invalid_claim: aud", claims(aud="other")),
    "an audience that begins like ours": ("invalid_claim: aud", claims(aud=f"{CLIENT_ID}-2")),
    "nobody as audience": ("invalid_claim: aud", audience()),
    "others as audience": ("invalid_claim: aud", audience("one", "two", azp=CLIENT_ID)),
    "an audience that is a number": ("invalid_claim: aud", claims(aud=[CLIENT_ID, 5], azp=CLIENT_ID)),
    "several in the audience, no party named": ("missing_claim: azp", audience(CLIENT_ID, "other")),
    "several in the audience, another party": ("invalid_claim: azp", audience(CLIENT_ID, "other", azp="other")),
    "one in the audience, another party": ("invalid_claim: azp", claims(azp="other")),
    "no subject": ("missing_claim: sub", claims(sub=None)),
    "an empty subject": ("sub", claims(sub="")),
    "a subject that is a number": ("invalid_claim: sub", claims(sub=1)),
    "a subject that is too long": ("sub", claims(sub="x" * 256)),
    "a subject with a NUL": ("sub", claims(sub="a\x00b")),
    # When
    "no end": ("missing_claim: exp", claims(exp=None)),
    "an end beyond the allowed skew": ("expired_token: exp", at(iat=-300, exp=-121)),
    "an end that is text": ("invalid_claim: exp", claims(exp="2100-01-01")),
    "an end that is true": ("invalid_claim: exp", claims(exp=True)),
    "an end that never comes": ("JSONDecodeError", payload(lambda body: json.dumps(body).replace(f'"exp": {body["exp"]}', '"exp": 1e999'))),
    "no beginning": ("missing_claim: iat", claims(iat=None)),
    "made in the future": ("invalid_claim: iat", at(iat=123, exp=600)),
    "not valid yet": ("invalid_claim: nbf", at(nbf=123)),
    "good for ten years": ("life", at(exp=TEN_YEARS)),
    "over before it was made": ("life", at(iat=60, exp=30)),
    # In answer to what
    "no nonce": ("missing_claim: nonce", claims(nonce=None)),
    "another nonce": ("invalid_claim: nonce", claims(nonce="other")),
    "a nonce that is a list": ("invalid_claim: nonce", claims(nonce=["x"])),
    "another access token": ("invalid_claim: at_hash", claims(at_hash=b64(b"0" * 16))),
    "a hash that is a number": ("invalid_claim: at_hash", claims(at_hash=5)),
}


@pytest.mark.usefixtures("every_failure")
@pytest.mark.parametrize("lie", LIES)
async def test_a_token_that_is_not_right_is_refused(world: World, lie: str) -> None:
    reason, tell = LIES[lie]
    tell(world.idp)
    answer = await world.browser().login()
    assert error_of(answer) == INVALID, answer.text
    assert answer.json()["error"]["message"] == "What the identity provider said about you cannot be accepted; ask an admin."
    assert "Set-Cookie" not in answer.headers
    assert await count(world.api, "select count(*) from auth_sessions where tenant_id = $1", world.admin.tenant) == 0
    assert await count(world.api, "select count(*) from user_identities where tenant_id = $1", world.admin.tenant) == 0
    (event,) = await audited(world.api, world.admin.tenant, "identity.sso.login.failure")
    assert (event["error_code"], event["outcome"], event["resource_id"]) == (INVALID[0], "failure", world.id)
    assert json.loads(event["metadata"])["reason"] == reason


def hashed(idp: OpenIDProvider) -> None:
    """A token with the hash of its access token."""
    idp.token_extra["access_token"] = "the-token"
    idp.claims["at_hash"] = b64(hashlib.sha256(b"the-token").digest()[:16])


TRUTHS: dict[str, Lie] = {
    "as usual": lambda idp: None,
    "RSA-PSS": lambda idp: idp.header.update(alg="PS256"),
    "RSA with a longer hash": lambda idp: idp.header.update(alg="RS512"),
    "P-256": key(ec(), public(ec())),
    "P-384": key(ec("P-384", "ec384"), public(ec("P-384", "ec384"))),
    "no key id, one key": key(rsa(), public(rsa()), kid=None),
    "no key id, one key for signatures": key(rsa(), public(rsa("other"), use="enc"), public(rsa()), kid=None),
    "no type": header(typ=None),
    "a type in small letters": header(typ="jwt"),
    "a header that we do not know": header(x="y"),
    "several in the audience, us as the party": audience(CLIENT_ID, "other", azp=CLIENT_ID),
    "one in a list as audience": audience(CLIENT_ID),
    "over within the allowed skew": at(iat=-300, exp=-117),
    "made within the allowed skew": at(iat=117, exp=600),
    "valid within the allowed skew": at(nbf=117),
    "the hash of its access token": hashed,
    "ten thousand groups": claims(groups=[f"group-{number}" for number in range(10_000)]),
}


@pytest.mark.parametrize("truth", TRUTHS)
async def test_a_token_that_is_right_is_accepted(world: World, truth: str) -> None:
    TRUTHS[truth](world.idp)
    session = await world.browser().session()
    assert (await world.me(session["session_token"])).status_code == 200


async def test_a_token_of_an_earlier_login_is_refused(world: World) -> None:
    kept: list[str] = []
    honest = world.idp.sign
    world.idp.sign = lambda head, body: kept.append(honest(head, body)) or kept[0]
    assert (await world.browser().login()).status_code == 200
    assert error_of(await world.browser().login()) == INVALID


def test_there_are_enough_lies() -> None:
    assert len(LIES) >= 60
