"""Servers of their own: what is counted is all that is there, and nobody else minds when they die."""

from collections.abc import Iterator

import pytest

from tests.support.installation import Servers


@pytest.fixture
def servers() -> Iterator[Servers]:
    held = Servers()
    yield held
    held.close()
