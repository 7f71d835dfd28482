"""The one way in which an outside system is called: past its circuit breaker, and again where that may help, within a budget."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from nexusrag.infra.breaker_state import Outcome
from nexusrag.infra.breakers import Breakers, Permit, Standing, family_of
from nexusrag.infra.metrics import OUTSIDE_CALLS, OUTSIDE_RETRIES
from nexusrag.infra.redis import Redis
from nexusrag.infra.retries import LONGEST_PAUSE_S, RetryBudget, Verdict
from nexusrag.settings.resilience import ResilienceSettings

T = TypeVar("T")
_MARGIN_S = 1.0


class Integrations:
    """Every outside system, by its name: `llm.openai`, `tts.openai`, `billing.webhook`, `sso.<provider>` …"""

    def __init__(self, settings: ResilienceSettings | None = None, redis: Redis | None = None) -> None:
        """Without `redis` the breakers are those of this process."""
        self._settings = settings or ResilienceSettings()
        # One for each: a tenant's identity provider that fails must not take the model's retries from everybody.
        self._budgets: defaultdict[str, RetryBudget] = defaultdict(RetryBudget)
        self._breakers = Breakers(self._settings, redis)

    def calling(self, integration: str, tenant_id: str, patience_s: float, *, attempts: int | None = None) -> "Calling":
        """One call. `patience_s`: how long an attempt can go on without a sign of success; `attempts`: other than by the settings."""
        most = self._settings.ext_retry_max_attempts if attempts is None else min(attempts, self._settings.ext_retry_max_attempts)
        backoff_s = self._settings.ext_retry_backoff_ms / 1000
        budget = self._budgets[family_of(integration)]
        return Calling(self._breakers, budget, integration, tenant_id, patience_s + _MARGIN_S, most, backoff_s)

    async def reset(self, integration: str, tenant_id: str | None = None) -> int:
        """Close the integration's breaker of one tenant, or of all tenants; how many were not as new."""
        return await self._breakers.reset(integration, tenant_id)

    async def standing(self, tenant_id: str | None = None) -> list[Standing]:
        """The breakers that are not as new."""
        return await self._breakers.standing(tenant_id)


class Attempt:
    """One attempt under way. It had success unless it is said to have failed, or left before `answered`."""

    def __init__(self, breakers: Breakers, permit: Permit) -> None:
        self._breakers = breakers
        self.permit = permit
        self.verdict: Verdict | None = None
        self._answered = False
        self._told = False

    async def answered(self) -> None:
        """The other side has begun a good answer, whose end may be far away: enough for a breaker that tries it."""
        if not self._answered:
            self._answered = True
            if self.permit.token:
                await self._tell("ok")

    def failed(self, verdict: Verdict) -> None:
        """The attempt was in vain."""
        self.verdict = verdict

    async def over(self, *, left: bool) -> None:
        """For Calling alone. `left`: by an exception that is no verdict, such as the caller's leaving."""
        outcome: Outcome = "ok" if self._answered or not left else "unknown"
        if self.verdict is not None:
            outcome = "failed" if self.verdict.theirs else "unknown"
        named = "refused" if self.verdict is not None and not self.verdict.theirs else outcome
        OUTSIDE_CALLS.labels(family_of(self.permit.integration), named).inc()
        if not self._told:
            await self._tell(outcome)

    async def _tell(self, outcome: Outcome) -> None:
        self._told = True
        await self._breakers.report(self.permit, outcome)


class Failed(Exception):
    """An attempt was in vain: `error` is for the caller, should none help."""

    def __init__(self, error: Exception, verdict: Verdict) -> None:
        super().__init__()
        self.error = error
        self.verdict = verdict


class Calling:
    """One call and its attempts: `answer` for what is whole or not at all; `attempt` and `pause` in turn for a stream."""

    def __init__(
        self, breakers: Breakers, budget: RetryBudget, integration: str, tenant_id: str, lease_s: float, most: int, backoff_s: float
    ) -> None:
        self._breakers = breakers
        self._budget = budget
        self._integration = integration
        self._tenant_id = tenant_id
        self._lease_s = lease_s
        self._most = most
        self._backoff_s = backoff_s
        self._failures = 0
        self._last: Permit | None = None

    async def answer(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` returns, asked again where its Failed says that this may help. Raises that one's error, INTEGRATION_UNAVAILABLE."""
        while True:
            async with self.attempt() as attempt:
                try:
                    return await ask()
                except Failed as failed:
                    failure = failed
                attempt.failed(failure.verdict)
            pause = self.pause(failure.verdict)
            if pause is None:
                raise failure.error
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[Attempt]:
        """Raises INTEGRATION_UNAVAILABLE while the breaker is open, before anything is sent."""
        self._last = permit = await self._breakers.ask(self._integration, self._tenant_id, self._lease_s)
        attempt = Attempt(self._breakers, permit)
        try:
            yield attempt
        except BaseException:
            await attempt.over(left=True)
            raise
        await attempt.over(left=False)
        if attempt.verdict is None:
            self._budget.earn()

    def pause(self, verdict: Verdict) -> float | None:
        """Seconds to wait before another attempt; None: give up.

        After a breaker's try there is none, since one is all that it may make, and when the other side asks for a long pause.
        """
        self._failures += 1
        assert self._last is not None
        if not verdict.again or self._failures >= self._most or (verdict.pause_s or 0) > LONGEST_PAUSE_S:
            return None
        if self._last.token or self._breakers.refuses(self._last):
            return None
        granted = self._budget.spend()
        OUTSIDE_RETRIES.labels(family_of(self._integration), "granted" if granted else "denied").inc()
        if not granted:
            return None
        if verdict.pause_s is not None:
            return verdict.pause_s + 0.01
        return self._backoff_s * 2.0 ** (self._failures - 1) * random.uniform(0.5, 1.5)
