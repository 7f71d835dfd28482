"""A model that is paid by the token: speaks the OpenAI protocol, writes down what each call took, and tells it afterwards."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aiohttp import web

from tests.support.openai_stand_in import DONE, FINISH, delta, usage

WORDS = 12
PAUSE_S = 0.004
PER_TOKEN = Decimal("0.0007") / 1000  # dollars


@dataclass
class Bill:
    """What one call took. It is closed once nobody is sent anything more. `cut`: the provider broke it off."""

    read: int
    wrote: int = 0
    closed: bool = False
    cut: bool = False


class InvoicingProvider:
    """`bills` by the id that the client gave its call; more than one for an id is a call that was made twice.

    `words`: how many an answer has, each `pause_s` after the last; -1 and less: after none, or so many more, its connection is cut.
    """

    def __init__(self, words: Callable[[], int], pause_s: float) -> None:
        self.bills: dict[str, list[Bill]] = {}
        self.url = ""
        self._words = words
        self._pause_s = pause_s

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        bill = Bill(read=sum(len(message["content"]) for message in body["messages"]) // 4)
        self.bills.setdefault(request.headers.get("X-Client-Request-Id", ""), []).append(bill)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await response.prepare(request)
            words = self._words()
            for number in range(words if words >= 0 else -words - 1):
                bill.wrote += 1
                await response.write(delta(f"word{number} "))
                await asyncio.sleep(self._pause_s)
            if words < 0:
                bill.cut = True
                assert request.transport is not None
                request.transport.abort()
                return response
            for last in (FINISH, usage(bill.read, bill.wrote), DONE):
                await response.write(last)
            await response.write_eof()
        except ConnectionError:
            pass
        finally:
            bill.closed = True
        return response

    async def tell(self, request: web.Request) -> web.Response:
        bills = self.bills.get(request.match_info["call"], [])
        if not bills or not all(bill.closed for bill in bills):
            return web.Response(status=404)
        counted = {"prompt_tokens": sum(bill.read for bill in bills), "completion_tokens": sum(bill.wrote for bill in bills)}
        return web.json_response({"usage": counted})

    def tokens(self, run_id: str) -> int:
        """All that the run is to be charged for."""
        return sum(bill.read + bill.wrote for call, bills in self.bills.items() if call.startswith(f"{run_id}.") for bill in bills)

    def runs(self) -> set[str]:
        return {call.partition(".")[0] for call in self.bills}


@asynccontextmanager
async def invoicing_provider(words: Callable[[], int] = lambda: WORDS, pause_s: float = PAUSE_S) -> AsyncIterator[InvoicingProvider]:
    provider = InvoicingProvider(words, pause_s)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", provider.chat)
    app.router.add_get("/usage/{call}", provider.tell)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()


def settings_for(provider: InvoicingProvider) -> dict[str, Any]:
    """Of a product that asks this provider, and has prices."""
    return {
        "LLM_PROVIDER": "openai",
        "LLM_BASE_URL": f"{provider.url}/v1",
        "LLM_USAGE_URL": f"{provider.url}/usage/{{call_id}}",
        "COST_PLATFORM_PRICES": (
            f'[{{"provider": "openai", "component": "llm", "rate_type": "per_1k_tokens", "rate_value_usd": "{PER_TOKEN * 1000}"}},'
            ' {"provider": "fake", "component": "embedding", "rate_type": "per_1k_tokens", "rate_value_usd": "0.00003"}]'
        ),
    }
