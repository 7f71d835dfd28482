"""The settings choose the embedder, and the home the socket of the local one."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexusrag.infra.outbound import Outbound
from nexusrag.providers.embeddings.factory import open_embedder, socket_path
from nexusrag.settings import SettingsError, load


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    made = Outbound()
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({}, "local/all-MiniLM-L6-v2"),
        ({"EMBEDDING_PROVIDER": "fake"}, "fake/hash-384"),
        ({"EMBEDDING_PROVIDER": "openai", "EMBEDDING_MODEL": "m", "EMBEDDING_DIMENSIONS": "8"}, "openai/m@8"),
    ],
)
async def test_the_settings_name_the_model(env: dict[str, str], name: str, tmp_path: Path, outbound: Outbound) -> None:
    embedder = open_embedder(load(tmp_path, env), outbound)
    assert embedder.model.name == name
    await embedder.close()


def test_settings_that_leave_the_openai_model_open_are_refused_with_a_line_each(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as failure:
        load(tmp_path, {"EMBEDDING_PROVIDER": "openai", "EMBEDDING_BASE_URL": "ftp://x"})
    assert [line.split(":")[0] for line in failure.value.lines] == ["EMBEDDING_MODEL", "EMBEDDING_DIMENSIONS", "EMBEDDING_BASE_URL"]


def test_the_socket_lies_in_the_home_while_its_path_is_short_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert socket_path(Path("/srv/rag")) == Path("/srv/rag/run/embed.sock")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    long = Path("/srv") / ("ü" * 50)
    path = socket_path(long)
    assert path.parent.parent == tmp_path
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path == socket_path(long) != socket_path(long / "b")


def test_a_directory_that_others_may_write_to_is_not_used_for_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    long = Path("/srv") / ("x" * 100)
    place = socket_path(long).parent
    place.chmod(0o777)
    with pytest.raises(SettingsError):
        socket_path(long)
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(SettingsError):
        socket_path(long)
