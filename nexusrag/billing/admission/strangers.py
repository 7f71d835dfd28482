"""Those who are not known yet: public routes and credentials that nobody here has seen are limited by network address.

A credential that was good before passes, whatever others at its address do; and one that proves good gets its token back.
"""

from collections import OrderedDict
from functools import partial
from time import monotonic

from nexusrag.billing.admission.emptied import rate_limited
from nexusrag.billing.admission.service import STATUS, Admissions, record_limited, unavailable
from nexusrag.infra.redis import RedisAwayError
from nexusrag.infra.resources import Resources
from nexusrag.security.audit.facade import FailureSampler
from nexusrag.settings import Settings
from nexusrag.web.address import network_of
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

_MOST_BLOCKED = 10_000


class Strangers:
    """Asks Redis, and remembers which addresses have to wait, so that a flood costs nothing more."""

    def __init__(self, resources: Resources) -> None:
        self._admissions = resources.get(Admissions)
        rates = resources.get(Settings).rates
        self._on = rates.rate_limit_enabled
        self._closed = rates.rl_fail_mode == "closed"
        self._rate = rates.rl_address_rps, rates.rl_address_burst
        self._blocked: OrderedDict[str, float] = OrderedDict()
        # Its own: the refusals of a flood are failures too, and would use up what is let through before the flood is told of.
        self._sampler = FailureSampler()

    async def admit(self, call: CallContext, credential: bytes | None = None) -> bool:
        """Take a token of the request's address. True: the credential was good before, nothing was taken.

        Raises RATE_LIMITED; without Redis RATE_LIMIT_UNAVAILABLE, where nothing goes without it.
        """
        if not self._on:
            return False
        address = network_of(call.address or "")
        left_ms = int((self._blocked.get(address, 0) - monotonic()) * 1000)
        if credential is None and left_ms > 0:
            raise rate_limited(call.route_class, "address", left_ms)
        try:
            wait_ms = await self._admissions.store.stranger(address, self._rate, _mark(credential))
        except RedisAwayError:
            await self._admissions.tell_degraded(call)
            if self._closed:
                raise unavailable() from None
            call.always[STATUS] = "degraded"
            return False
        if wait_ms > 0:
            self._block(address, wait_ms)
            await self._note(call, address)
            raise rate_limited(call.route_class, "address", wait_ms)
        return wait_ms < 0

    async def recognised(self, address: str | None, credential: bytes) -> None:
        """The credential is good: it passes from now on, and its address has its token back."""
        if self._on:
            try:
                await self._admissions.store.recognised(network_of(address or ""), self._rate, _mark(credential) or "")
            except RedisAwayError:
                pass  # it is looked up once more

    async def unmasked(self, credential: bytes) -> None:
        """The credential was good before, and is no longer."""
        try:
            await self._admissions.store.forget(_mark(credential) or "")
        except RedisAwayError:
            pass  # the next attempt says so again

    async def _note(self, call: CallContext, address: str) -> None:
        # Sampled like other failures of those who are not known: who has many addresses must not fill the disk.
        if await self._admissions.is_news(f"address:{address}") and self._sampler.admit(None):
            told = {"scope": "address", "route_class": call.route_class.value, "path": call.request.url.path[:200]}
            call.on_over(partial(record_limited, call, told))

    def _block(self, address: str, wait_ms: int) -> None:
        self._blocked[address] = monotonic() + wait_ms / 1000
        self._blocked.move_to_end(address)
        if len(self._blocked) > _MOST_BLOCKED:
            self._blocked.popitem(last=False)


def _mark(credential: bytes | None) -> str | None:
    """The name of a credential in Redis: half of the hash that it is kept under, which leads nowhere."""
    return None if credential is None else credential[:16].hex()


async def check_address(call: CallContext) -> None:
    await call.of(Strangers).admit(call)


def _limited(gate: Gate, method: str) -> bool:
    return gate.is_public and not gate.probed


STAGE = Stage("address", check_address, _limited)
