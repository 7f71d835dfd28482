"""The form of keys and tokens, `nrag_<kind>_<id>_<secret><checksum>`, and the hash under which it is kept."""

import hmac
import re
import secrets
import zlib
from dataclasses import dataclass

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 32  # 190 bits
_CHECKSUM_LENGTH = 6
_KEY = re.compile(r"nrag_([a-z]{2,8})_([0-9a-f]{32})_([0-9A-Za-z]{38})")
MAX_LENGTH = 128


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A new key. `secret` is shown once and never stored; `prefix` is what lists show."""

    id: str
    secret: str
    prefix: str


def mint(kind: str, key_id: str) -> MintedKey:
    """A key of `kind` (such as `api`) for the row `key_id` (`key_<uuid>`)."""
    body = f"nrag_{kind}_{key_id.partition('_')[2]}_{''.join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))}"
    key = body + _checksum(body)
    return MintedKey(key_id, key, key[: len(f"nrag_{kind}_") + 12])


def kind_of(key: str) -> str | None:
    """The kind of what looks like one of our keys."""
    match = _KEY.fullmatch(key) if len(key) <= MAX_LENGTH else None
    return match[1] if match else None


def is_well_formed(key: str) -> bool:
    """Whether `key` can be one of ours at all: a typing error is refused without asking the database."""
    return kind_of(key) is not None and hmac.compare_digest(_checksum(key[:-_CHECKSUM_LENGTH]), key[-_CHECKSUM_LENGTH:])


def keyed_hash(key: str, pepper: str) -> bytes:
    """What is stored: HMAC-SHA-256 under the pepper."""
    return hmac.digest(pepper.encode(), key.encode(), "sha256")


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECKSUM_LENGTH):
        value, rest = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[rest] + digits
    return digits
