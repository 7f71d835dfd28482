"""Checked credentials, kept while revocations are being heard."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from nexusrag.infra.changes import CREDENTIAL, PERSON, TENANT, Changes
from nexusrag.kernel import clock
from nexusrag.kernel.principal import Principal

_MAX_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    expires_at: datetime | None
    until: float


class CredentialCache:
    """Callers by the hash of their credential. Caches only while revocations are being heard."""

    def __init__(self, changes: Changes, ttl_s: float) -> None:
        self._changes = changes
        self._ttl_s = ttl_s
        self._held: OrderedDict[bytes, _Cached] = OrderedDict()
        self._generation = 0
        self._last_known: OrderedDict[bytes, _Cached] = OrderedDict()
        changes.on(CREDENTIAL, lambda key: self._drop(lambda one: one.credential_id == key), dropped=self.clear)
        changes.on(PERSON, lambda key: self._drop(lambda one: f"{one.tenant_id}/{one.subject_id}" == key), dropped=self.clear)
        changes.on(TENANT, lambda key: self._drop(lambda one: one.tenant_id == key), dropped=self.clear)

    def get(self, key_hash: bytes) -> Principal | None:
        held = self._held.get(key_hash)
        if held is None or held.until < monotonic() or (held.expires_at is not None and held.expires_at <= clock.now()):
            return None
        return held.principal

    def last_known(self, key_hash: bytes) -> Principal | None:
        """Whose credential it was when last checked, for what must answer while there is no database to ask."""
        known = self._last_known.get(key_hash)
        if known is None or (known.expires_at is not None and known.expires_at <= clock.now()):
            return None
        return known.principal

    @property
    def generation(self) -> int:
        """Changes whenever something was dropped; an answer read before a drop must not be cached after it."""
        return self._generation

    def put(self, key_hash: bytes, principal: Principal, expires_at: datetime | None, generation: int) -> None:
        self._last_known[key_hash] = _Cached(principal, expires_at, 0)
        if len(self._last_known) > _MAX_CACHED:
            self._last_known.popitem(last=False)
        if not self._changes.live or generation != self._generation:
            return
        self._held[key_hash] = _Cached(principal, expires_at, monotonic() + self._ttl_s)
        if len(self._held) > _MAX_CACHED:
            self._held.popitem(last=False)

    def clear(self) -> None:
        self._generation += 1
        self._held.clear()

    def refused(self, key_hash: bytes) -> None:
        """The database does not take this credential any more."""
        self._last_known.pop(key_hash, None)

    def _drop(self, concerned: Callable[[Principal], bool]) -> None:
        self._generation += 1
        for held in (self._held, self._last_known):
            for key_hash in [key_hash for key_hash, cached in held.items() if concerned(cached.principal)]:
                del held[key_hash]
