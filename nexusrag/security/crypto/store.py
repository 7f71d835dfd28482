"""Files at rest: encrypts on the way in, decrypts on the way out, measures the plaintext. Place and keys are given.

A file that no row names has a job that removes it, from before it is stored until the transaction that names it: see `reserve`.
"""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import asyncpg
import structlog

from nexusrag.infra.database import Database, Work
from nexusrag.infra.jobs import UNTIL_DONE, enqueue, withdraw
from nexusrag.kernel import ids
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.storage.directory import DirectoryStorage
from nexusrag.providers.storage.port import Storage, pieces
from nexusrag.providers.storage.threads import Threads
from nexusrag.security.crypto.blob import decrypt_stream, encrypt_stream
from nexusrag.security.crypto.keyring import Keyring, LocalKeyring
from nexusrag.settings import Settings

log = structlog.get_logger(__name__)
REMOVE = "blob.remove"
ABANDONED = "blob.abandoned"
# Storing and naming a file takes seconds, minutes when it is large and the store slow. Nothing breaks when it takes longer: it is refused.
_ABANDONED_AFTER_S = 3600


@dataclass(frozen=True, slots=True)
class Reserved:
    """The name of a file to be, and the job that removes it unless it is kept."""

    tenant_id: str
    blob_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Bytes and SHA-256 (hex) of the plaintext."""

    size: int
    sha256: str


class BlobStore:
    """Encrypted files by tenant and name. A name follows the rule of storage keys (`Storage`), and may hold `/`."""

    def __init__(self, storage: Storage, keyring: Keyring, queue: str) -> None:
        self._storage = storage
        self._keyring = keyring
        self._queue = queue
        self._threads = Threads(4)

    async def reserve(self, work: Work) -> Reserved:
        """A new name for a file of the transaction's tenant. Commit, then `put`, then `keep` it in the transaction that names it.

        Unless it is kept, a job removes the file an hour later, whichever process died in between.
        """
        if work.tenant_id is None:
            raise RuntimeError("a file belongs to a tenant")
        blob_id = ids.new_id("blob")
        job_id = await self._enqueue(work, ABANDONED, blob_id, delay_s=_ABANDONED_AFTER_S)
        return Reserved(work.tenant_id, blob_id, job_id)

    async def keep(self, work: Work, reserved: Reserved) -> None:
        """The transaction names the file. Raises ApiError(SERVICE_UNAVAILABLE) when that comes too late: the file is gone, or going."""
        if not await withdraw(work, reserved.job_id):
            raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, "Storing the file took too long; send it again.")

    async def take_back(self, database: Database, reserved: Reserved) -> None:
        """Remove a stored file that will not be kept. Where that fails, its job does it in an hour."""
        try:
            await self.delete(reserved.tenant_id, reserved.blob_id)
            async with database.work(reserved.tenant_id) as work:
                await withdraw(work, reserved.job_id)
        except (ApiError, asyncpg.PostgresError) as error:
            log.warning("blob.not_taken_back", blob=reserved.blob_id, error=type(error).__name__)

    async def remove_later(self, work: Work, blob_id: str) -> None:
        """Have the file removed once the transaction, which ceases to name it, is committed. Wake the workers then."""
        await self._enqueue(work, REMOVE, blob_id)

    async def _enqueue(self, work: Work, kind: str, blob_id: str, delay_s: float = 0) -> str:
        return await enqueue(work, kind, {"blob_id": blob_id}, queue=self._queue, max_attempts=UNTIL_DONE, delay_s=delay_s)

    async def put(self, reserved: Reserved, source: AsyncIterator[bytes], limit: int | None = None) -> StoredBlob:
        """Encrypt and store `source`, replacing what the name held. Hold no transaction meanwhile: stores may be slow.

        Raises ApiError(PAYLOAD_TOO_LARGE) once `source` gives more than `limit` bytes. After an error nothing has changed, and
        never is a part of a file stored.
        """
        tenant_id, blob_id = reserved.tenant_id, reserved.blob_id
        key = _key(tenant_id, blob_id)
        counter = _Counter(source, limit)
        master = await self._keyring.current(tenant_id)
        async with contextlib.aclosing(encrypt_stream(counter.count(), master, tenant_id, blob_id)) as sealed:
            await self._storage.put(key, sealed)
        return StoredBlob(counter.size, counter.digest.hexdigest())

    async def read(self, tenant_id: str, blob_id: str) -> AsyncGenerator[bytes, None]:
        """The plaintext, in verified chunks of at most 64 KiB.

        Raises ApiError(NOT_FOUND) at the first step, ApiError(DECRYPTION_FAILED) where the file turns out damaged. Who must not
        act on a part of a file uses `fetch`.
        """
        async with (
            contextlib.aclosing(self._storage.get(_key(tenant_id, blob_id))) as sealed,
            contextlib.aclosing(decrypt_stream(sealed, self._keyring, tenant_id, blob_id)) as plain,
        ):
            async for chunk in plain:
                yield chunk

    async def fetch(self, tenant_id: str, blob_id: str, file: BinaryIO) -> int:
        """Decrypt into `file`, opened for writing and without content; its size. It is to be used only once this has returned.

        Give a file without a name (`TemporaryFile`): whatever becomes of the process, no plaintext stays. Raises as `read` does, and
        ApiError(SERVICE_UNAVAILABLE) when the file cannot be written.
        """
        size = 0
        try:
            async with contextlib.aclosing(self.read(tenant_id, blob_id)) as plain:
                async for piece in pieces(plain):
                    await self._threads.run(partial(_write, file, piece))
                    size += len(piece)
        except OSError as error:
            message = "The disk for working files is full or cannot be written. Free some space and try again."
            raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, message) from error
        return size

    async def delete(self, tenant_id: str, blob_id: str) -> None:
        """Remove the file; nothing happens when there is none."""
        await self._storage.delete(_key(tenant_id, blob_id))

    async def clear(self, tenant_id: str, blob_id: str) -> None:
        """Remove the file, and whatever a writer that died left of it."""
        await self._storage.clear(_key(tenant_id, blob_id))

    async def exists(self, tenant_id: str, blob_id: str) -> bool:
        return await self._storage.exists(_key(tenant_id, blob_id))


def open_blob_store(settings: Settings) -> BlobStore:
    """The store that the settings name. Blocks briefly (makes directories, removes what a crash left): call it at start.

    Raises SettingsError when the master key is missing, ApiError(SERVICE_UNAVAILABLE) when the directory cannot be used.
    """
    wanted, queue = settings.storage, settings.ingestion.ingest_queue_name
    keyring = LocalKeyring.from_settings(wanted.crypto_local_master_key)
    if wanted.blob_store == "s3":
        # Imported on demand: boto3 takes a third of a second and tens of megabytes that a directory does not need.
        from nexusrag.providers.storage.s3 import S3Storage  # noqa: PLC0415

        return BlobStore(S3Storage(wanted.s3_bucket, wanted.s3_prefix, wanted.s3_endpoint_url), keyring, queue)
    directory = Path(wanted.blob_directory) if wanted.blob_directory else settings.home / "blobs"
    return BlobStore(DirectoryStorage(directory), keyring, queue)


def _write(file: BinaryIO, piece: bytes) -> None:
    file.write(piece)
    file.flush()  # at once: pieces are larger than buffers, and a hop to a thread of its own costs more


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
