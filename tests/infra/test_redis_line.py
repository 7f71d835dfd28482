"""The line that all scripts share: answers reach whoever asked, whatever becomes of the others and of the connection."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import cast

import pytest
from redis.exceptions import NoScriptError, RedisError, ResponseError

from nexusrag.infra.redis import Redis, RedisAwayError
from nexusrag.kernel.ids import new_id
from tests.support.installation import Servers
from tests.support.processes import Proxy, redis_proxy, until


@pytest.fixture
async def redis(servers: Servers) -> AsyncIterator[Redis]:
    held = Redis(servers.settings.stores)
    yield held
    await held.close()


@pytest.fixture
async def proxied(servers: Servers) -> AsyncIterator[tuple[Redis, Proxy]]:
    async with redis_proxy(servers) as (proxy, url):
        held = Redis(servers.with_env(REDIS_URL=url).stores)
        yield held, proxy
        await held.close()


async def test_many_at_once_use_one_connection_and_get_their_own_answers(redis: Redis) -> None:
    redis.line._options["client_name"] = name = new_id("line")
    assert await asyncio.gather(*(redis.line.run("ECHO", number) for number in range(500))) == [b"%d" % number for number in range(500)]
    assert (await redis.line.run("CLIENT", "LIST")).count(f"name={name} ".encode()) == 1


async def test_an_error_is_told_to_whoever_made_it(redis: Redis) -> None:
    answers = await asyncio.gather(*(redis.line.run(*command) for command in (("ECHO", 1), ("ECHO",), ("ECHO", 3))), return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == (b"1", ResponseError, b"3")


async def test_whoever_stops_waiting_leaves_the_others_their_answers(redis: Redis) -> None:
    await redis.line.run("PING")
    tasks = [asyncio.create_task(redis.line.run("ECHO", number)) for number in range(30)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, bytes)] == [b"%d" % number for number in range(1, 30, 2)]
    assert await redis.line.run("ECHO", "x") == b"x"


async def test_a_script_that_is_not_known_is_sent(redis: Redis) -> None:
    script = redis.script(f"return {{ARGV[1], KEYS[1], '{new_id('x')}'}}")
    assert (await script(["k"], [7]))[:2] == [b"7", b"k"]
    await redis.client.script_flush()
    assert (await script(["k"], [8]))[:2] == [b"8", b"k"]
    await redis.client.script_flush()
    with pytest.raises(NoScriptError):
        await script.tell(["k"], [9])  # nobody is there to send it again


async def test_a_lost_connection_is_told_to_all_who_wait_and_replaced(proxied: tuple[Redis, Proxy]) -> None:
    redis, proxy = proxied
    await redis.line.run("PING")
    proxy.answering.clear()
    waiting = [asyncio.create_task(redis.line.run("ECHO", number)) for number in range(5)]
    await asyncio.sleep(0)
    proxy.cut()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, RedisError | OSError) for answer in answers)
    proxy.answering.set()
    assert await redis.line.run("ECHO", "again") == b"again"


async def test_what_nobody_waits_for_goes_before_what_is_asked_next(redis: Redis) -> None:
    key = new_id("line")
    with pytest.raises(RedisError):
        redis.line.tell("SET", key, "0")  # there is no connection yet
    await redis.line.run("PING")
    told = redis.line.tell("SET", key, "1")
    assert await redis.line.run("GETDEL", key) == b"1"
    assert told.result() == b"OK"


async def test_what_was_given_up_is_lost_with_the_line_in_silence(redis: Redis) -> None:
    await redis.line.run("PING")
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        lost, given_up = (asyncio.create_task(redis.line.run("ECHO", text)) for text in ("lost", "given up"))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        redis.line.hang_up()
        with pytest.raises(RedisError):
            await lost
        assert await redis.line.run("ECHO", "again") == b"again"
        gc.collect()  # which finds errors that nobody was told of
    finally:
        loop.set_exception_handler(None)
    assert complaints == []
    assert given_up.cancelled()


async def test_what_cannot_be_sent_takes_nobodys_answer(redis: Redis) -> None:
    await redis.line.run("PING")
    for odd in (None, "\ud800"):
        with pytest.raises((TypeError, UnicodeEncodeError)):
            await redis.line.run("ECHO", cast(str, odd))
        assert await redis.line.run("ECHO", "x") == b"x"


async def test_redis_says_nothing_unasked_whatever_the_address_asks_for(servers: Servers) -> None:
    address = servers.settings.stores.redis_url.get_secret_value()
    redis = Redis(servers.with_env(REDIS_URL=f"{address}{'&' if '?' in address else '?'}protocol=3").stores)
    try:
        hello = await redis.line.run("HELLO")
        assert hello[hello.index(b"proto") + 1] == 2
    finally:
        await redis.close()


async def test_a_line_that_is_closed_before_anybody_is_told_is_lost(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _: bytes) -> None:
            raise RuntimeError("unable to perform operation; the handle is closed")

    await redis.line.run("PING")
    monkeypatch.setattr(redis.line._connection, "_transport", Closed())
    with pytest.raises(RedisError):
        await redis.line.run("ECHO", "unsent")
    assert await redis.line.run("ECHO", "again") == b"again"


async def test_a_silent_redis_costs_the_budget_once(proxied: tuple[Redis, Proxy]) -> None:
    redis, proxy = proxied
    await redis.line.run("PING")
    proxy.answering.clear()
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(RedisAwayError):
        await redis.ask(lambda: redis.line.run("PING"))
    assert 0.09 <= loop.time() - began < 1
    began = loop.time()
    with pytest.raises(RedisAwayError):
        await redis.ask(lambda: redis.line.run("PING"))
    assert loop.time() - began < 0.09 and redis.is_left_alone
    proxy.answering.set()


async def test_a_process_that_is_late_itself_does_not_blame_redis(redis: Redis) -> None:
    await redis.line.run("PING")
    asked = asyncio.create_task(redis.ask(lambda: redis.line.run("ECHO", "there")))
    await asyncio.sleep(0)
    time.sleep(0.3)  # the answer is there long before anybody looks
    assert await asked == b"there" and not redis.is_left_alone


async def test_a_connection_that_is_lost_while_nobody_waits_is_counted(proxied: tuple[Redis, Proxy]) -> None:
    redis, proxy = proxied
    await redis.line.run("PING")
    assert redis.line.losses == 0
    proxy.cut()
    await until(lambda: asyncio.sleep(0, redis.line.losses == 1))
    await redis.line.run("PING")
    assert redis.line.losses == 1
    redis.line.hang_up()
    redis.line.hang_up()
    assert redis.line.losses == 2


@pytest.mark.parametrize(
    ("piece", "told"),
    [(b"nonsense\r\n", [None, None]), (b"+one\r\nnonsense\r\n", [b"one", None]), (b"+one\r\n+two\r\n+more\r\n", [b"one", b"two"])],
)
async def test_what_was_not_asked_loses_the_connection(servers: Servers, piece: bytes, told: list[bytes | None]) -> None:
    """`told`: None for whoever got no answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(65536):
            writer.write(piece if b"last" in asked else b"+OK\r\n" * asked.count(b"\r\nCLIENT\r\n"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        redis = Redis(servers.with_env(REDIS_URL=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0").stores)
        try:
            waiting = [asyncio.create_task(redis.line.run("ECHO", text)) for text in ("first", "last")]
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert [None if isinstance(answer, RedisError) else answer for answer in answers] == told
            assert redis.line.losses == 1
        finally:
            await redis.close()
