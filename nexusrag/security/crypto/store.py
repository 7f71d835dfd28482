"""Files at rest: encrypts on the way in, decrypts on the way out, measures the plaintext. Place and keys are given."""

import contextlib
import hashlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nexusrag.kernel import ids
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.storage.atomic import AtomicFile
from nexusrag.providers.storage.directory import DirectoryStorage
from nexusrag.providers.storage.port import Storage, pieces
from nexusrag.providers.storage.threads import Threads
from nexusrag.security.crypto.blob import decrypt_stream, encrypt_stream
from nexusrag.security.crypto.keyring import Keyring, LocalKeyring
from nexusrag.settings import Settings


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Bytes and SHA-256 (hex) of the plaintext."""

    size: int
    sha256: str


class BlobStore:
    """Encrypted files by tenant and name. A name follows the rule of storage keys (`Storage`), and may hold `/`."""

    def __init__(self, storage: Storage, keyring: Keyring) -> None:
        self._storage = storage
        self._keyring = keyring
        self._threads = Threads(4)

    async def put(self, tenant_id: str, blob_id: str, source: AsyncIterator[bytes], limit: int | None = None) -> StoredBlob:
        """Encrypt and store `source`, replacing what the name held.

        Raises ApiError(PAYLOAD_TOO_LARGE) once `source` gives more than `limit` bytes. After an error nothing has changed, and
        never is a part of a file stored.
        """
        key = _key(tenant_id, blob_id)
        counter = _Counter(source, limit)
        master = await self._keyring.current(tenant_id)
        async with contextlib.aclosing(encrypt_stream(counter.count(), master, tenant_id, blob_id)) as sealed:
            await self._storage.put(key, sealed)
        return StoredBlob(counter.size, counter.digest.hexdigest())

    async def read(self, tenant_id: str, blob_id: str) -> AsyncGenerator[bytes, None]:
        """The plaintext, in verified chunks of at most 64 KiB.

        Raises ApiError(NOT_FOUND) at the first step, ApiError(DECRYPTION_FAILED) where the file turns out damaged. Who must not
        act on a part of a file uses `fetch_to`.
        """
        async with (
            contextlib.aclosing(self._storage.get(_key(tenant_id, blob_id))) as sealed,
            contextlib.aclosing(decrypt_stream(sealed, self._keyring, tenant_id, blob_id)) as plain,
        ):
            async for chunk in plain:
                yield chunk

    async def fetch_to(self, tenant_id: str, blob_id: str, path: Path) -> int:
        """Decrypt into the file `path` (mode 0600) and return its size. The file appears only once all of it is verified.

        Raises as `read` does, and ApiError(SERVICE_UNAVAILABLE) when `path` cannot be written.
        """
        try:
            return await self._fetch(tenant_id, blob_id, path)
        except OSError as error:
            message = "The disk for working files is full or cannot be written. Free some space and try again."
            raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, message) from error

    async def _fetch(self, tenant_id: str, blob_id: str, path: Path) -> int:
        file = AtomicFile(path.with_name(f".{secrets.token_hex(16)}.partial"))
        size = 0
        try:
            async with contextlib.aclosing(self.read(tenant_id, blob_id)) as plain:
                await self._threads.run(file.open)
                async for piece in pieces(plain):
                    await self._threads.run(partial(file.write, piece))
                    size += len(piece)
                await self._threads.run(partial(file.place, path, durable=False))
        except BaseException:
            await self._threads.run(file.discard)
            raise
        return size

    async def delete(self, tenant_id: str, blob_id: str) -> None:
        """Remove the file; nothing happens when there is none."""
        await self._storage.delete(_key(tenant_id, blob_id))

    async def exists(self, tenant_id: str, blob_id: str) -> bool:
        return await self._storage.exists(_key(tenant_id, blob_id))


def open_blob_store(settings: Settings) -> BlobStore:
    """The store that the settings name. Blocks briefly (makes directories, removes what a crash left): call it at start.

    Raises SettingsError when the master key is missing, ApiError(SERVICE_UNAVAILABLE) when the directory cannot be used.
    """
    wanted = settings.storage
    keyring = LocalKeyring.from_settings(wanted.crypto_local_master_key)
    if wanted.blob_store == "s3":
        # Imported on demand: boto3 takes a third of a second and tens of megabytes that a directory does not need.
        from nexusrag.providers.storage.s3 import S3Storage  # noqa: PLC0415

        return BlobStore(S3Storage(wanted.s3_bucket, wanted.s3_prefix, wanted.s3_endpoint_url), keyring)
    directory = Path(wanted.blob_directory) if wanted.blob_directory else settings.home / "blobs"
    return BlobStore(DirectoryStorage(directory), keyring)


class _Counter:
    """Counts, digests and limits what passes."""

    def __init__(self, source: AsyncIterator[bytes], limit: int | None) -> None:
        self._source = source
        self._limit = limit
        self.size = 0
        self.digest = hashlib.sha256()

    async def count(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._source:
            self.size += len(chunk)
            if self._limit is not None and self.size > self._limit:
                message = f"The file has more than the {self._limit} bytes allowed. Split it, or ask for a higher limit."
                raise ApiError(ErrorCode.PAYLOAD_TOO_LARGE, message, {"limit_bytes": self._limit})
            self.digest.update(chunk)
            yield chunk


def _key(tenant_id: str, blob_id: str) -> str:
    # The first segment is the tenant's own: whatever the name holds, it stays below it.
    if not ids.is_tenant_id(tenant_id):
        raise ApiError(ErrorCode.BAD_REQUEST, "A tenant's id holds lower-case letters, digits, '_' and '-' only.")
    return f"{tenant_id}/{blob_id}"
