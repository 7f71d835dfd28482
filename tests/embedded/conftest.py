"""An empty home for each test, and a guard that leaves no server of it behind."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nexusrag.embedded.postgres import EmbeddedPostgres
from nexusrag.embedded.redis import EmbeddedRedis
from nexusrag.settings.stores import StoreSettings

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "home"
    yield path
    if (path / "run").is_dir():
        EmbeddedPostgres(path, StoreSettings()).stop()
        EmbeddedRedis(path).stop()


@pytest.fixture
def postgres(home: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(home, StoreSettings())


@pytest.fixture
def redis_server(home: Path) -> EmbeddedRedis:
    return EmbeddedRedis(home)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for `condition`; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether `pid` runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def child_environment() -> dict[str, str]:
    """The environment of a Python process that imports this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])}
