"""An identity provider that fails: a code is sent once, keys are asked for again, and after a while nobody asks."""

import pytest
from aiohttp import web

from tests.identity.sso.world import EXCHANGE, World, described, made
from tests.support.api import error_of
from tests.support.openid_provider import Answer, answering, openid_provider

AWAY = ("INTEGRATION_UNAVAILABLE", 503)


def once(status: int, world: World, path: str) -> Answer:
    """Fails once, then does as usual."""

    async def answer(request: web.Request) -> web.StreamResponse:
        del world.idp.answers[path]
        return web.Response(status=status)

    return answer


async def test_a_code_is_sent_once_though_the_provider_fails(world: World) -> None:
    world.idp.answers["/token"] = once(503, world, "/token")
    assert error_of(await world.browser().login()) == EXCHANGE
    assert world.idp.asked("/token") == 1


async def test_keys_are_asked_for_again(world: World) -> None:
    world.idp.answers["/keys"] = once(503, world, "/keys")
    await world.browser().session()
    assert world.idp.asked("/keys") == 2


@pytest.mark.parametrize("status", [503, 400])
async def test_a_provider_that_keeps_failing_is_left_alone_and_one_that_refuses_is_not(world: World, status: int) -> None:
    world.idp.answers["/token"] = answering("{}", status)
    for _ in range(5):
        assert error_of(await world.browser().login()) == EXCHANGE
    refused = await world.browser().login()
    if status == 400:
        assert error_of(refused) == EXCHANGE
        return
    assert error_of(refused) == AWAY
    assert int(refused.headers["Retry-After"]) >= 1
    assert world.idp.asked("/token") == 5
    async with openid_provider() as healthy:  # the same tenant's other one
        other = world.browser((await made(world.admin, described(healthy)))["id"])
        other.idp = healthy
        await other.session("sub-2")
