"""Database URLs as the driver wants them. Imports next to nothing: the command line uses it."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


def connect_arguments(url: str) -> dict[str, Any]:
    """asyncpg's arguments from a `postgresql://` URL, with or without `+asyncpg` and with `?host=/socket/dir`."""
    parts = urlsplit(url.replace("postgresql+asyncpg://", "postgresql://", 1))
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    arguments: dict[str, Any] = {
        "host": query.get("host") or parts.hostname or "localhost",
        "port": int(query.get("port") or parts.port or 5432),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.lstrip("/") or "nexusrag",
    }
    if "ssl" in query or "sslmode" in query:
        arguments["ssl"] = query.get("ssl") or query.get("sslmode")
    return arguments
