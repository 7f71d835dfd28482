"""The format of a file at rest, NRB1. It is final: every later release must read what this one writes.

Chunked AES-256-GCM in the STREAM construction (Hoang et al. 2015) under a random key per file, wrapped by a master key. Files
and chunks are bound to tenant, name and place: none can be moved, dropped, repeated, appended or altered unnoticed.
"""

# A file is: "NRB1" | length of the header, 2 bytes big-endian | header, canonical JSON in ASCII | chunk 0 | … | last chunk
#
# header   {"alg":"AES-256-GCM-STREAM","chunk":65536,"format":1,"key":"local-…","nonce":"<7>","version":1,"wrapped":"<60>"}
#          keys sorted, no spaces, bytes as lower-case hex; any other spelling of the same values is refused
# key      wrapping key = HKDF-SHA-256(master key, no salt, info "nexusrag/blob/wrap/1")
#          wrapped = nonce, 12 random bytes | AES-256-GCM(wrapping key, data key, AAD("key", tenant, blob, stable, key, version))
# chunk i  AES-256-GCM(data key, plaintext, AAD("chunk", tenant, blob, stable)), 16-byte tag at the end
#          nonce = header nonce | i, 4 bytes big-endian | 1 for the last chunk, else 0
#          each chunk but the last holds exactly `chunk` bytes of plaintext; the last holds 1 to `chunk`, or none in an empty file
# stable   the header without key, version and wrapped: a new master key rewrites the header and leaves the chunks as they are
# AAD(…)   "nexusrag/blob" and the arguments, in UTF-8, each after its length in 4 bytes big-endian

import json
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.security.crypto.keyring import Keyring, MasterKey

MAGIC = b"NRB1"
ALGORITHM = "AES-256-GCM-STREAM"
FORMAT = 1
CHUNK = 64 * 1024
TAG = 16
_KEY_BYTES = 32
_WRAP_NONCE = 12
_WRAPPED = _WRAP_NONCE + _KEY_BYTES + TAG
_PREFIX = 7
_LONGEST_HEADER = 2048
_LARGEST_CHUNK = 8 * 1024 * 1024
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


def damaged() -> ApiError:
    """The one answer to every failed check: which check failed would help only a forger."""
    return ApiError(ErrorCode.DECRYPTION_FAILED, "The stored file is damaged or does not belong here. Upload or restore it again.")


@dataclass(frozen=True, slots=True)
class Header:
    """What a stored file says of itself. Trusted only after `open_data_key`."""

    chunk: int
    nonce: bytes
    key_id: str
    key_version: int
    wrapped: bytes

    @property
    def stable(self) -> str:
        return _canonical(self._stable_fields())

    def encode(self) -> bytes:
        keyed = {"key": self.key_id, "version": self.key_version, "wrapped": self.wrapped.hex()}
        text = _canonical(self._stable_fields() | keyed).encode("ascii")
        return MAGIC + len(text).to_bytes(2, "big") + text

    def _stable_fields(self) -> dict[str, Any]:
        return {"alg": ALGORITHM, "chunk": self.chunk, "format": FORMAT, "nonce": self.nonce.hex()}

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read the JSON part. Raises ApiError(DECRYPTION_FAILED) for what this release would not have written."""
        try:
            fields = json.loads(text.decode("ascii"))
            header = cls(
                chunk=fields["chunk"],
                nonce=bytes.fromhex(fields["nonce"]),
                key_id=fields["key"],
                key_version=fields["version"],
                wrapped=bytes.fromhex(fields["wrapped"]),
            )
            sound = (
                type(header.chunk) is int
                and type(header.key_version) is int
                and 0 < header.chunk <= _LARGEST_CHUNK
                and 0 < header.key_version < 2**31
                and len(header.nonce) == _PREFIX
                and len(header.wrapped) == _WRAPPED
                and _KEY_ID.fullmatch(header.key_id) is not None
                and header.encode()[len(MAGIC) + 2 :] == text
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            raise damaged() from None
        if not sound:
            raise damaged()
        return header


def take_header(pending: bytearray) -> Header | None:
    """Cut the header off the front of `pending`; None while it is not all there. Raises ApiError(DECRYPTION_FAILED)."""
    if not MAGIC.startswith(pending[: len(MAGIC)]):
        raise damaged()
    start = len(MAGIC) + 2
    if len(pending) < start:
        return None
    length = int.from_bytes(pending[len(MAGIC) : start], "big")
    if length > _LONGEST_HEADER:
        raise damaged()
    if len(pending) < start + length:
        return None
    header = Header.parse(bytes(pending[start : start + length]))
    del pending[: start + length]
    return header


class Sealer:
    """Encrypts one file. `header` comes first, then what `seal` yields as bytes arrive, then `finish` once."""

    def __init__(
        self,
        master: MasterKey,
        tenant_id: str,
        blob_id: str,
        *,
        chunk: int = CHUNK,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        data_key = random(_KEY_BYTES)
        unkeyed = Header(chunk, random(_PREFIX), master.key_id, master.version, b"")
        wrap_nonce = random(_WRAP_NONCE)
        aad = _key_aad(unkeyed, tenant_id, blob_id)
        wrapped = wrap_nonce + AESGCM(_wrapping_key(master)).encrypt(wrap_nonce, data_key, aad)
        self.header = Header(chunk, unkeyed.nonce, master.key_id, master.version, wrapped)
        self._cipher = _ChunkCipher(self.header, data_key, tenant_id, blob_id)

    def seal(self, pending: bytearray) -> Iterator[bytes]:
        """Take full chunks off `pending`, leaving at least one byte: only `finish` knows which chunk is the last."""
        while len(pending) > self.header.chunk:
            yield self._cipher.encrypt(_take(pending, self.header.chunk), last=False)

    def finish(self, pending: bytearray) -> bytes:
        return self._cipher.encrypt(bytes(pending), last=True)


class Opener:
    """Decrypts one file. Yields only what was verified; the file is whole only once `finish` has returned."""

    def __init__(self, header: Header, master: MasterKey, tenant_id: str, blob_id: str) -> None:
        """Raises ApiError(DECRYPTION_FAILED) when header, tenant, name or master key do not belong together."""
        self._sealed = header.chunk + TAG
        self._cipher = _ChunkCipher(header, open_data_key(header, master, tenant_id, blob_id), tenant_id, blob_id)
        self._first = True

    def open(self, pending: bytearray) -> Iterator[bytes]:
        """Take full chunks off `pending`, leaving what may be the last one."""
        while len(pending) > self._sealed:
            self._first = False
            yield self._cipher.decrypt(_take(pending, self._sealed), last=False)

    def finish(self, pending: bytearray) -> bytes:
        """The last chunk. Raises ApiError(DECRYPTION_FAILED) when the file was cut short or extended."""
        plain = self._cipher.decrypt(bytes(pending), last=True)
        if not plain and not self._first:
            raise damaged()
        return plain


async def encrypt_stream(
    source: AsyncIterator[bytes], master: MasterKey, tenant_id: str, blob_id: str, *, chunk: int = CHUNK
) -> AsyncGenerator[bytes, None]:
    """Yield the stored form of `source`. Memory: one piece of the source and one chunk."""
    sealer = Sealer(master, tenant_id, blob_id, chunk=chunk)
    yield sealer.header.encode()
    pending = bytearray()
    async for piece in source:
        pending += piece
        for sealed in sealer.seal(pending):
            yield sealed
    yield sealer.finish(pending)


async def decrypt_stream(source: AsyncIterator[bytes], keyring: Keyring, tenant_id: str, blob_id: str) -> AsyncGenerator[bytes, None]:
    """Yield the plaintext of a stored file in verified chunks.

    Raises ApiError(DECRYPTION_FAILED) at the first chunk that fails. What came before is genuine, but the file is not whole: a
    reader that must not act on a part waits for the end.
    """
    pending = bytearray()
    opener: Opener | None = None
    async for piece in source:
        pending += piece
        if opener is None:
            header = take_header(pending)
            if header is None:
                continue
            opener = Opener(header, await keyring.get(tenant_id, header.key_id, header.key_version), tenant_id, blob_id)
        for plain in opener.open(pending):
            yield plain
    if opener is None:
        raise damaged()
    if last := opener.finish(pending):
        yield last


def open_data_key(header: Header, master: MasterKey, tenant_id: str, blob_id: str) -> bytes:
    """Unwrap the data key, which proves every field of the header. Raises ApiError(DECRYPTION_FAILED)."""
    nonce, sealed = header.wrapped[:_WRAP_NONCE], header.wrapped[_WRAP_NONCE:]
    try:
        return AESGCM(_wrapping_key(master)).decrypt(nonce, sealed, _key_aad(header, tenant_id, blob_id))
    except InvalidTag:
        raise damaged() from None


class _ChunkCipher:
    def __init__(self, header: Header, data_key: bytes, tenant_id: str, blob_id: str) -> None:
        self._aead = AESGCM(data_key)
        self._prefix = header.nonce
        self._aad = _aad("chunk", tenant_id, blob_id, header.stable)
        self._next = 0

    def encrypt(self, plain: bytes, *, last: bool) -> bytes:
        return self._aead.encrypt(self._nonce(last), plain, self._aad)

    def decrypt(self, sealed: bytes, *, last: bool) -> bytes:
        try:
            return self._aead.decrypt(self._nonce(last), sealed, self._aad)
        except InvalidTag:
            raise damaged() from None

    def _nonce(self, last: bool) -> bytes:
        # After 2^32 chunks (256 TiB) this raises OverflowError, so that no nonce is used twice.
        nonce = self._prefix + self._next.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
        self._next += 1
        return nonce


def _wrapping_key(master: MasterKey) -> bytes:
    """Derived, so that the master key may serve other purposes without their ciphertexts ever meeting."""
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"nexusrag/blob/wrap/1").derive(master.key)


def _key_aad(header: Header, tenant_id: str, blob_id: str) -> bytes:
    return _aad("key", tenant_id, blob_id, header.stable, header.key_id, str(header.key_version))


def _aad(*parts: str) -> bytes:
    encoded = [part.encode() for part in ("nexusrag/blob", *parts)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _canonical(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def _take(pending: bytearray, size: int) -> bytes:
    taken = bytes(memoryview(pending)[:size])
    del pending[:size]
    return taken
