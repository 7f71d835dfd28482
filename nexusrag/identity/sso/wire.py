"""Calls to identity providers: https outside development, allowed addresses, short answers, JSON objects and nothing else."""

from collections.abc import Awaitable
from typing import Any

import orjson

from nexusrag.identity.sso.models import IdentityProvider
from nexusrag.identity.sso.refusals import exchange_failed
from nexusrag.infra.integrations import Calling, Failed, Integrations
from nexusrag.infra.outbound import Outbound, OutboundError, UrlNotAllowed
from nexusrag.infra.retries import NONSENSE, of_status
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings

_MAX_BYTES = 1024 * 1024
_JSON = {"Accept": "application/json"}


class Wire:
    """What is said to identity providers, and what of their answers is taken. Redirects are not followed."""

    def __init__(self, settings: Settings, outbound: Outbound) -> None:
        self._outbound = outbound
        self._timeout_s = settings.outbound.ext_call_timeout_ms / 1000
        self._plain = settings.runtime.environment == "development"

    async def demand(self, url: str) -> None:
        """Raises URL_NOT_ALLOWED unless `url` may be called now, as far as can be known without calling it."""
        self._demand_https(url)
        await self._outbound.check_url(url)

    async def get(
        self, url: str, what: str, *, whose: IdentityProvider | None, bearer: str | None = None, limit: int = _MAX_BYTES
    ) -> dict[str, Any]:
        """The object at `url`, whose name in the log is `what`. `whose` is None while a provider is still being made.

        Raises URL_NOT_ALLOWED, INTEGRATION_UNAVAILABLE while the provider's circuit breaker is open, and SSO_TOKEN_EXCHANGE_FAILED for
        anything else.
        """
        self._demand_https(url)
        headers = _JSON | ({"Authorization": f"Bearer {bearer}"} if bearer else {})

        async def ask() -> dict[str, Any]:
            return await _object(self._outbound.get(url, headers, self._timeout_s, read_limit=limit), what)

        return await self._calling(whose).answer(ask)

    async def post(self, url: str, form: str, headers: dict[str, str], what: str, *, whose: IdentityProvider) -> dict[str, Any]:
        """The object in the answer to a form, which is sent once: no code may be used twice. Raises as `get`."""
        self._demand_https(url)

        async def ask() -> dict[str, Any]:
            return await _object(self._outbound.post_form(url, form, _JSON | headers, self._timeout_s, read_limit=_MAX_BYTES), what)

        return await self._calling(whose, attempts=1).answer(ask)

    def _calling(self, whose: IdentityProvider | None, attempts: int | None = None) -> Calling:
        if whose is None:  # what an admin mistypes counts against nobody
            return Integrations().calling("sso.new", "", self._timeout_s)
        return self._outbound.integrations.calling(f"sso.{whose.id}", whose.tenant_id, self._timeout_s, attempts=attempts)

    def _demand_https(self, url: str) -> None:
        if not self._plain and not url.lower().startswith("https://"):
            raise ApiError(ErrorCode.URL_NOT_ALLOWED, "This URL may not be called: outside development it must begin with https://.")


def _failed(error: OutboundError, what: str) -> ApiError:
    if isinstance(error, UrlNotAllowed):
        return ApiError(ErrorCode.URL_NOT_ALLOWED, f"This URL may not be called: {error}.")
    return exchange_failed(f"{what}: {error}")


async def _object(call: Awaitable[tuple[int, bytes]], what: str) -> dict[str, Any]:
    """The object in an answer. Raises Failed."""
    try:
        status, body = await call
    except OutboundError as error:
        raise Failed(_failed(error, what), error.verdict) from None
    if status != 200:
        raise Failed(exchange_failed(f"{what}: status {status}"), of_status(status))
    try:
        answer = orjson.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise Failed(exchange_failed(f"{what}: no JSON object"), NONSENSE)
    return answer
