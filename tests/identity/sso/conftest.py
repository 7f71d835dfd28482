"""A tenant with an identity provider."""

from collections.abc import AsyncIterator

import pytest

from nexusrag.security.audit.facade import FailureSampler
from tests.identity.sso.world import World, described, keep_secret, made
from tests.support.api import Api
from tests.support.openid_provider import OpenIDProvider, openid_provider


@pytest.fixture
async def idp() -> AsyncIterator[OpenIDProvider]:
    async with openid_provider() as running:
        yield running


@pytest.fixture
async def world(api: Api, idp: OpenIDProvider) -> AsyncIterator[World]:
    """Newcomers get an account."""
    admin = await api.person()
    world = World(api, admin, idp, await made(admin, described(idp, keep_secret(api, admin.tenant))))
    yield world
    await world.close()


@pytest.fixture
def every_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """However fast they come, all failures stand in the log."""
    monkeypatch.setattr(FailureSampler, "admit", lambda self, tenant_id: True)
