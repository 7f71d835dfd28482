"""Client secrets, by reference: the name of an environment variable, or a file in the tenant's own directory.

A reference is written by an admin of one tenant. It must reach neither the platform's secrets nor another tenant's: variables serve
tenants that operate the platform, and only those whose name says that they hold a client secret; files lie apart for each tenant.
"""

import re
from pathlib import Path

from nexusrag.access.roles.facade import operates
from nexusrag.settings import Settings
from nexusrag.settings.secrets import named_secret

_VARIABLE = re.compile(r"(?=.{1,128}\Z)(?:[A-Z][A-Z0-9]*_)*CLIENT_SECRET(?:_[A-Z0-9]+)*")
_FILE = re.compile(r"file:([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_LONGEST = 4096
FORM = "the name of an environment variable such as OKTA_CLIENT_SECRET, or file:<name> in the tenant's directory of secrets"


def is_reference(ref: str) -> bool:
    """Whether `ref` has the form of a reference; a secret itself has not."""
    return bool(_VARIABLE.fullmatch(ref) or _FILE.fullmatch(ref))


def resolve(settings: Settings, tenant_id: str, is_home: bool, ref: str) -> str | None:
    """The secret that `ref` leads to for this tenant, or None. It is printable ASCII, as HTTP demands."""
    file = _FILE.fullmatch(ref)
    if file is not None:
        found = _read(_directory(settings) / tenant_id / file[1])
    elif _VARIABLE.fullmatch(ref) and operates(tenant_id, is_home, settings):
        found = named_secret(ref)
    else:
        found = None
    return found if found and found.isascii() and found.isprintable() else None


def _directory(settings: Settings) -> Path:
    named = settings.identity.sso_secrets_directory
    return Path(named) if named else settings.home / "sso-secrets"


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        return content.decode().strip() if len(content) <= _LONGEST else None
    except (OSError, UnicodeDecodeError):
        return None
