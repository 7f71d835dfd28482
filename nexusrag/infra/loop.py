"""The event loop of our processes, and the garbage collector as it suits them."""

import asyncio
import gc


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it exists."""
    try:
        import uvloop  # noqa: PLC0415  # not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def settle_memory() -> None:
    """What was loaded so far stays for ever: the collector need not walk it again whenever young objects die."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
