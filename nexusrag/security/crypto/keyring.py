"""Who answers for master keys. Asynchronous and per tenant, so that a vault or a KMS can take the place of the one local key."""

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import SettingsError
from nexusrag.settings.storage import decode_master_key


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A key that encrypts data keys. `key` is 32 bytes and stays out of `repr`, logs and errors."""

    key_id: str
    version: int
    key: bytes = field(repr=False)


class Keyring(Protocol):
    """The master keys of every tenant."""

    async def current(self, tenant_id: str) -> MasterKey:
        """The key under which new files of this tenant are written."""
        ...

    async def get(self, tenant_id: str, key_id: str, version: int) -> MasterKey:
        """The key that a stored file names. Raises ApiError(DECRYPTION_FAILED) when this tenant has no such key."""
        ...


class LocalKeyring:
    """One master key for all tenants, from CRYPTO_LOCAL_MASTER_KEY.

    Its id is derived from the key, so that a file written under another key is recognised before any decryption is tried.
    """

    def __init__(self, key: bytes) -> None:
        fingerprint = hashlib.sha256(b"nexusrag local master key id\0" + key).hexdigest()[:16]
        self._key = MasterKey(f"local-{fingerprint}", 1, key)

    @classmethod
    def from_settings(cls, secret: SecretStr) -> "LocalKeyring":
        """Raises SettingsError when the key is missing or unusable."""
        text = secret.get_secret_value()
        if not text:
            raise SettingsError(["CRYPTO_LOCAL_MASTER_KEY: needed, files are stored encrypted (openssl rand -base64 32 makes one)"])
        try:
            return cls(decode_master_key(text))
        except ValueError as error:
            raise SettingsError([f"CRYPTO_LOCAL_MASTER_KEY: {error}"]) from None

    async def current(self, tenant_id: str) -> MasterKey:
        return self._key

    async def get(self, tenant_id: str, key_id: str, version: int) -> MasterKey:
        if (key_id, version) != (self._key.key_id, self._key.version):
            raise ApiError(
                ErrorCode.DECRYPTION_FAILED,
                f"The stored file is under key {key_id} version {version}; this installation has {self._key.key_id} "
                f"version {self._key.version}. Set CRYPTO_LOCAL_MASTER_KEY back to the key it was written with.",
            )
        return self._key
