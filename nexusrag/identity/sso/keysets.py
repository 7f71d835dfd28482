"""The keys of identity providers, kept for a while. An unknown key id makes us ask again, though at most once a minute."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from nexusrag.identity.sso.models import IdentityProvider
from nexusrag.identity.sso.refusals import exchange_failed, token_invalid
from nexusrag.identity.sso.wire import Wire

T = TypeVar("T")
_Place = tuple[str, str]  # provider and URL
_KEPT_S = 600
ASK_AGAIN_S = 60
_MAX_PROVIDERS = 1000
_MAX_KEYS = 100
_MAX_BYTES = 256 * 1024
_RSA_BITS = range(2048, 4097)
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC"}  # by the beginning of an algorithm's name


@dataclass(frozen=True, slots=True)
class _KeySet:
    keys: list[dict[str, Any]]
    fetched: float = field(default_factory=monotonic)


class KeySets:
    """Key sets by provider and URL. What several logins wait for is fetched once."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._held: OrderedDict[_Place, _KeySet] = OrderedDict()
        self._asked_again: OrderedDict[_Place, float] = OrderedDict()
        self._fetching: dict[_Place, asyncio.Task[_KeySet]] = {}

    async def key_for(self, provider: IdentityProvider, header: dict[str, Any]) -> RSAKey | ECKey:
        """The key with which a token of this header must have been signed.

        Raises SSO_ID_TOKEN_INVALID when the provider has no such key or several, SSO_TOKEN_EXCHANGE_FAILED when it cannot be asked.
        """
        place = (provider.id, provider.jwks_url)
        held = self._held.get(place)
        if held is None or monotonic() - held.fetched > _KEPT_S:
            held = await self._fetch(place, provider)
        named = _named(held, header.get("kid"))
        if not named and self._may_ask_again(place):
            named = _named(await self._fetch(place, provider), header.get("kid"))
        fitting = [key for key in named if _fits(key, header["alg"])]
        if len(fitting) != 1:
            raise token_invalid("several keys fit" if fitting else "no key fits")
        return _imported(fitting[0])

    async def close(self) -> None:
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _may_ask_again(self, place: _Place) -> bool:
        if place in self._fetching:
            return True  # somebody has just asked, and the answer is for all
        now = monotonic()
        if now - self._asked_again.get(place, -ASK_AGAIN_S) < ASK_AGAIN_S:
            return False
        _put(self._asked_again, place, now)
        return True

    async def _fetch(self, place: _Place, provider: IdentityProvider) -> _KeySet:
        task = self._fetching.get(place)
        if task is None:
            task = self._fetching[place] = asyncio.create_task(self._load(provider), name="jwks")
            task.add_done_callback(lambda done: self._fetched(place, done))
        return await asyncio.shield(task)  # one login that is given up takes nothing from the others

    def _fetched(self, place: _Place, task: asyncio.Task[_KeySet]) -> None:
        del self._fetching[place]
        if not task.cancelled() and task.exception() is None:
            _put(self._held, place, task.result())

    async def _load(self, provider: IdentityProvider) -> _KeySet:
        keys = (await self._wire.get(provider.jwks_url, "keys", whose=provider, limit=_MAX_BYTES)).get("keys")
        if not isinstance(keys, list) or len(keys) > _MAX_KEYS:
            raise exchange_failed("keys: no key set, or too many keys")
        return _KeySet([key for key in keys if isinstance(key, dict)])


def _put(held: OrderedDict[_Place, T], place: _Place, value: T) -> None:
    held[place] = value
    held.move_to_end(place)
    if len(held) > _MAX_PROVIDERS:
        held.popitem(last=False)


def _named(held: _KeySet, kid: str | None) -> list[dict[str, Any]]:
    return held.keys if kid is None else [key for key in held.keys if key.get("kid") == kid]


def _fits(key: dict[str, Any], algorithm: str) -> bool:
    """Whether the key is for signatures, of the kind that the algorithm needs, and not set aside for another one."""
    return key.get("kty") == _KINDS[algorithm[:2]] and key.get("use") in (None, "sig") and key.get("alg") in (None, algorithm)


def _imported(key: dict[str, Any]) -> RSAKey | ECKey:
    try:
        if key["kty"] == "EC":
            return ECKey.import_key(key)
        rsa = RSAKey.import_key(key)
    except (JoseError, ValueError, TypeError):
        raise token_invalid("the key cannot be read") from None
    if rsa.public_key.key_size not in _RSA_BITS:
        raise token_invalid("the key is too short or too long")
    return rsa
