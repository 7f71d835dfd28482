"""What tests of single connections share."""

import asyncio

import pytest

from nexusrag.web import server
from nexusrag.web.server import Protocol


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than half a second."""
    made = Protocol.connection_made

    def connection_made(self: Protocol, transport: asyncio.Transport) -> None:
        self.timeout_keep_alive = 0.5  # type: ignore[assignment]  # uvicorn counts in whole seconds
        made(self, transport)

    monkeypatch.setattr(server, "_HEAD_WITHIN_S", 0.5)
    monkeypatch.setattr(Protocol, "connection_made", connection_made)
