"""Chooses the embedder of a process by its settings."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from nexusrag.infra.outbound import Outbound
from nexusrag.providers.embeddings.port import Embedder
from nexusrag.settings import Settings, SettingsError

# The kernel takes 107 bytes (103 on macOS); the lock beside the socket has a longer name, but is an ordinary file.
_LONGEST_SOCKET_PATH = 100


def open_embedder(settings: Settings, outbound: Outbound) -> Embedder:
    """The embedder that `EMBEDDING_PROVIDER` names. Quick: what is slow happens in its first call.

    Raises SettingsError when the settings do not suffice for it.
    """
    chosen = settings.embeddings
    # Imported where chosen: each costs time and memory in processes and commands that use another.
    if chosen.embedding_provider == "fake":
        from nexusrag.providers.embeddings.fake import FakeEmbedder  # noqa: PLC0415

        return FakeEmbedder()
    if chosen.embedding_provider == "openai":
        from nexusrag.providers.embeddings.openai import open_openai  # noqa: PLC0415

        return open_openai(settings, outbound)
    from nexusrag.providers.embeddings.local.client import open_local  # noqa: PLC0415

    return open_local(socket_path(settings.home), settings.home / "run" / "embed.log", chosen.embedding_threads)


def socket_path(home: Path) -> Path:
    """Where the embedding process of `home` listens: in the home, or in a directory of the system's temporary one if that is too long.

    Raises SettingsError when someone else owns or may write to that directory: they could answer in the model's place.
    """
    path = home.absolute() / "run" / "embed.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:16]
    directory = Path(tempfile.gettempdir()) / f"nexusrag-{digest}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SettingsError([f"NEXUSRAG_HOME: too long for a socket, and {directory} is not a directory of this user alone"])
    return directory / "embed.sock"
