"""The secrets that an installation makes for itself, kept in one file that only its owner can read."""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from nexusrag.embedded.home import EmbeddedError, Home, exclusive, write_atomic

ADMIN_PASSWORD = "POSTGRES_ADMIN_PASSWORD"
LOGIN_PASSWORD = "POSTGRES_LOGIN_PASSWORD"
REDIS_PASSWORD = "REDIS_PASSWORD"

_MAKERS: Mapping[str, Callable[[], str]] = {
    "UI_CURSOR_SECRET": lambda: secrets.token_urlsafe(32),
    "AUTH_KEY_PEPPER": lambda: secrets.token_urlsafe(32),
    "AUTH_JWT_SECRET": lambda: secrets.token_urlsafe(32),
    "CRYPTO_LOCAL_MASTER_KEY": lambda: base64.b64encode(secrets.token_bytes(32)).decode(),
    ADMIN_PASSWORD: lambda: secrets.token_hex(24),  # hex: passwords stand in URLs
    LOGIN_PASSWORD: lambda: secrets.token_hex(24),
    REDIS_PASSWORD: lambda: secrets.token_hex(24),
}


def ensure_secrets(home: Path, names: tuple[str, ...] = tuple(_MAKERS)) -> dict[str, str]:
    """The secrets `names` of the installation at `home`; those that do not exist yet are made and kept.

    Never replaces one. Raises EmbeddedError when the file is damaged, or gone while there are data that need it.
    """
    place = Home(home)
    path = place.secrets / "secrets.json"
    known = _read(path)
    if not all(name in known for name in names):
        place.create()
        with exclusive(place.secrets / "lock", 30, "another process that makes the secrets"):
            known = _read(path)
            missing = [name for name in names if name not in known]
            if ADMIN_PASSWORD in missing and (place.data / "postgres").exists():
                raise EmbeddedError(
                    f"{path} does not hold the secrets of {place.data / 'postgres'}: restore it from a backup. "
                    "New secrets would open neither the database nor the stored files."
                )
            if missing:
                known |= {name: _MAKERS[name]() for name in missing}
                write_atomic(path, json.dumps(known, indent=1) + "\n")
    return {name: known[name] for name in names}


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EmbeddedError(f"{path} cannot be read: {error}.") from error
    except ValueError as error:
        raise EmbeddedError(f"{path} is damaged: restore it from a backup.") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) and value for value in found.values()):
        raise EmbeddedError(f"{path} is damaged: restore it from a backup.")
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return found
