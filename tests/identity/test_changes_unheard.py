"""Caches that are not told of a change: what looks for its effect in every process turns red."""

import sys
from functools import partial

import pytest

from nexusrag.infra import changes
from tests.identity import test_changes_everywhere as everywhere
from tests.support.api import Api
from tests.support.soon import soon

pytestmark = pytest.mark.slow
pair = everywhere.pair


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not to come need not be waited for as long as what is."""
    monkeypatch.setattr(everywhere, "soon", partial(soon, within_s=1.5))


async def nothing(*_: object) -> None:
    """Announces nothing."""


@pytest.mark.parametrize("name", ["revoked", "person lowered"])
async def test_the_suite_turns_red_when_changes_are_not_announced(
    pair: tuple[Api, str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in [*sys.modules.values()]:
        if getattr(module, "announce", None) is changes.announce and module is not changes:
            monkeypatch.setattr(module, "announce", nothing)
    with pytest.raises((AssertionError, TimeoutError)):
        await everywhere.test_a_change_is_felt_everywhere(pair, name)


@pytest.mark.parametrize("name", ["revoked", "tenant suspended"])
async def test_the_suite_turns_red_when_nobody_is_told(pair: tuple[Api, str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(changes.Changes, "tell", lambda *_: None)
    with pytest.raises((AssertionError, TimeoutError)):
        await everywhere.test_a_change_is_felt_everywhere(pair, name)
