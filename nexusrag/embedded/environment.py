"""Turns settings that name no database or no Redis into settings that do, by starting the embedded servers.

Every user of an installation holds a shared lock on it; the last one to leave stops the servers, so nobody stops them under
another. Servers whose users were all killed go on running and are adopted by the next start.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from nexusrag.embedded.home import EmbeddedError, Home, try_lock, wait_lock
from nexusrag.embedded.postgres import EmbeddedPostgres
from nexusrag.embedded.redis import EmbeddedRedis
from nexusrag.embedded.secrets import ensure_secrets
from nexusrag.embedded.server import Server, silent
from nexusrag.settings import Settings, SettingsError

# Secret → group of settings that holds it. With a database of one's own they are the operator's to keep.
_SECRETS = {"UI_CURSOR_SECRET": "web", "AUTH_KEY_PEPPER": "auth", "AUTH_JWT_SECRET": "identity", "CRYPTO_LOCAL_MASTER_KEY": "storage"}


class EmbeddedEnvironment:
    """The servers of one installation, in use by this process until `stop`. `settings` are complete and frozen."""

    def __init__(self, settings: Settings, servers: tuple[Server, ...], locks: tuple[int, ...]) -> None:
        self.settings = settings
        self.servers = servers
        self._locks = locks

    def variables(self) -> dict[str, str]:
        """What a child process needs in its environment to use this installation without starting anything. Holds secrets.

        The migration login is left out: neither API nor workers may have it.
        """
        stores = self.settings.stores
        hidden: dict[str, SecretStr] = {"DATABASE_URL": stores.database_url, "REDIS_URL": stores.redis_url}
        hidden |= {name: getattr(getattr(self.settings, group), name.lower()) for name, group in _SECRETS.items()}
        return {"NEXUSRAG_HOME": str(self.settings.home)} | {name: value.get_secret_value() for name, value in hidden.items()}

    def revive(self) -> list[str]:
        """Start again whatever server has died, and name it. Cheap while all live; to be called every second or so."""
        return [server.label for server in self.servers if not server.running() and server.start()]

    def stop(self, timeout: float = 30) -> list[str]:
        """Leave the installation, and stop its servers unless another process uses them. Returns what was stopped."""
        if not self._locks:
            return []
        users, *others = self._locks
        self._locks = ()
        try:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return []
            stopped = [server for server in self.servers if server.running()]
            for server in reversed(self.servers):
                server.stop(timeout)
            return [server.label for server in stopped]
        finally:
            for descriptor in (users, *others):
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def prepare(settings: Settings, report: Callable[[str], None] = silent, timeout: float = 60) -> EmbeddedEnvironment:
    """For `nexusrag up`: own the installation, and start what `settings` leave to us.

    Raises EmbeddedError when another `up` owns it or a server does not start within `timeout` seconds, SettingsError when a
    database of one's own comes without the secrets.
    """
    home = Home(Path(os.path.realpath(settings.home)))
    _check(settings)
    home.create()
    owner = try_lock(home.run / "up", fcntl.LOCK_EX)
    if owner is None:
        pid = (home.run / "up").read_text("ascii", "replace").strip() or "unknown"
        raise EmbeddedError(f"NexusRAG is running on {home.root} already (process {pid}): stop it first, or choose another --home.")
    try:
        os.ftruncate(owner, 0)
        os.write(owner, f"{os.getpid()}\n".encode())
        return _enter(settings, home, (owner,), report, timeout)
    except BaseException:
        os.close(owner)
        raise


def attach(settings: Settings, report: Callable[[str], None] = silent, timeout: float = 60) -> EmbeddedEnvironment:
    """For every other command: use the servers that run, else start them until `stop`. Works beside `up`.

    Raises as `prepare` does, but for the other `up`.
    """
    home = Home(Path(os.path.realpath(settings.home)))
    _check(settings)
    if settings.stores.database_url.get_secret_value() and settings.stores.redis_url.get_secret_value():
        return EmbeddedEnvironment(settings, (), ())
    home.create()
    return _enter(settings, home, (), report, timeout)


def _enter(settings: Settings, home: Home, locks: tuple[int, ...], report: Callable[[str], None], timeout: float) -> EmbeddedEnvironment:
    users = wait_lock(home.run / "users", fcntl.LOCK_SH, timeout, "another process that is stopping the servers")
    environment = EmbeddedEnvironment(settings, (), (users, *locks))
    try:
        if not settings.stores.database_url.get_secret_value():
            postgres = EmbeddedPostgres(home.root, settings.stores)
            environment.servers += (postgres,)
            postgres.start(timeout, report)
            environment.settings = _with_database(environment.settings, postgres)
        if not settings.stores.redis_url.get_secret_value():
            redis = EmbeddedRedis(home.root)
            environment.servers += (redis,)
            redis.start(timeout, report)
            environment.settings = _with_values(environment.settings, "stores", {"redis_url": redis.url()})
    except BaseException as error:
        environment._locks = (users,)  # the caller closes the rest
        if isinstance(error, EmbeddedError):
            # A server that is not ready in time may be recovering: stopped, it would never get to the end of it.
            environment.servers = tuple(server for server in environment.servers if server.ready())
        environment.stop()
        raise
    return environment


def _check(settings: Settings) -> None:
    stores = settings.stores
    if not stores.database_url.get_secret_value():
        if stores.database_migration_url.get_secret_value():
            raise SettingsError(["DATABASE_MIGRATION_URL: is set without DATABASE_URL; set both, or neither for the embedded PostgreSQL"])
        return
    missing = [name for name, group in _SECRETS.items() if not getattr(getattr(settings, group), name.lower()).get_secret_value()]
    if missing:
        raise SettingsError([f"{name}: is required when DATABASE_URL is set; only embedded mode makes it by itself" for name in missing])


def _with_database(settings: Settings, postgres: EmbeddedPostgres) -> Settings:
    settings = _with_values(settings, "stores", {"database_url": postgres.url("login"), "database_migration_url": postgres.url("admin")})
    for name, value in ensure_secrets(settings.home, tuple(_SECRETS)).items():
        group = _SECRETS[name]
        if not getattr(getattr(settings, group), name.lower()).get_secret_value():
            settings = _with_values(settings, group, {name.lower(): value})
    return settings


def _with_values(settings: Settings, group: str, values: dict[str, str]) -> Settings:
    changed = getattr(settings, group).model_copy(update={name: SecretStr(value) for name, value in values.items()})
    return settings.model_copy(update={group: changed})
