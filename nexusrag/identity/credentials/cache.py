"""Checked credentials, kept while revocations are being heard."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from nexusrag.infra.changes import CREDENTIAL, PERSON, TENANT, Changes
from nexusrag.infra.kept import Kept
from nexusrag.kernel import clock
from nexusrag.kernel.principal import Principal

_MAX_CACHED = 10_000


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    expires_at: datetime | None

    @property
    def whose(self) -> Principal | None:
        """None: the credential has run out."""
        return None if self.expires_at is not None and self.expires_at <= clock.now() else self.principal


class CredentialCache:
    """Callers by the hash of their credential. Caches only while revocations are being heard."""

    def __init__(self, changes: Changes, ttl_s: float) -> None:
        self._held: Kept[bytes, _Cached] = Kept(changes, ttl_s=ttl_s, most=_MAX_CACHED)
        self._last_known: OrderedDict[bytes, _Cached] = OrderedDict()
        changes.on(CREDENTIAL, lambda key: self._drop(lambda one: one.credential_id == key), dropped=self.clear)
        changes.on(PERSON, lambda key: self._drop(lambda one: f"{one.tenant_id}/{one.subject_id}" == key), dropped=self.clear)
        changes.on(TENANT, lambda key: self._drop(lambda one: one.tenant_id == key), dropped=self.clear)

    def get(self, key_hash: bytes) -> Principal | None:
        held = self._held.get(key_hash)
        return held.whose if held is not None else None

    def last_known(self, key_hash: bytes) -> Principal | None:
        """Whose credential it was when last checked, for what must answer while there is no database to ask."""
        known = self._last_known.get(key_hash)
        return known.whose if known is not None else None

    @property
    def generation(self) -> int:
        """Changes whenever something was dropped; an answer read before a drop must not be cached after it."""
        return self._held.generation

    def put(self, key_hash: bytes, principal: Principal, expires_at: datetime | None, generation: int) -> None:
        cached = self._last_known[key_hash] = _Cached(principal, expires_at)
        if len(self._last_known) > _MAX_CACHED:
            self._last_known.popitem(last=False)
        self._held.put(key_hash, cached, generation)

    def clear(self) -> None:
        self._held.clear()

    def refused(self, key_hash: bytes) -> None:
        """The database does not take this credential any more."""
        self._last_known.pop(key_hash, None)

    def _drop(self, concerned: Callable[[Principal], bool]) -> None:
        self._held.drop_where(lambda cached: concerned(cached.principal))
        for key_hash in [key_hash for key_hash, cached in self._last_known.items() if concerned(cached.principal)]:
            del self._last_known[key_hash]
