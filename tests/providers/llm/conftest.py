"""What the tests of language models share."""

from collections.abc import AsyncIterator

import pytest

from nexusrag.infra.outbound import Outbound
from nexusrag.settings.outbound import OutboundSettings
from tests.support.openai_stand_in import OpenAIStandIn, openai_stand_in


@pytest.fixture
async def server() -> AsyncIterator[OpenAIStandIn]:
    async with openai_stand_in() as running:
        yield running


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    out = Outbound(OutboundSettings(outbound_allowed_networks="127.0.0.0/8"))
    yield out
    await out.close()
