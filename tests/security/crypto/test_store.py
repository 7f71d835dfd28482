"""The blob store on a real directory: what it measures, refuses and leaves behind."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.security.crypto.blob import CHUNK
from nexusrag.security.crypto.store import BlobStore, Reserved, open_blob_store
from nexusrag.settings import SettingsError, load

KEY = "7f1c0d52a9e34b86c8f0513e9d27b46a10e5c2938f7a6b4d01d8e3f29ab5c764"


def opened(home: Path, key: str = KEY) -> BlobStore:
    return open_blob_store(load(home, {"CRYPTO_LOCAL_MASTER_KEY": key}))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return opened(tmp_path)


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def at(tenant: str, blob: str) -> Reserved:
    """A name without the job that a reservation brings: nothing here looks at it."""
    return Reserved(tenant, blob, "")


async def content(store: BlobStore, tenant: str = "t1", blob: str = "doc_1") -> bytes:
    return b"".join([part async for part in store.read(tenant, blob)])


def stored(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 50 * CHUNK + 17])
async def test_size_and_digest_are_of_the_plaintext(store: BlobStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    blob = await store.put(at("t1", "doc_1"), stream(data[:10], data[10:]), None)
    assert (blob.size, blob.sha256) == (size, hashlib.sha256(data).hexdigest())
    assert await content(store) == data
    with TemporaryFile() as out:
        assert await store.fetch("t1", "doc_1", out) == size
        out.seek(0)
        assert out.read() == data


async def test_nothing_of_the_plaintext_is_on_the_disk(store: BlobStore, tmp_path: Path) -> None:
    await store.put(at("t1", "secret-name"), stream(b"attack at dawn " * 100_000))
    (path,) = stored(tmp_path)
    assert b"attack" not in path.read_bytes()
    assert b"secret-name" not in path.read_bytes()
    assert KEY not in path.read_bytes().hex()


async def test_the_limit_admits_its_last_byte_and_leaves_nothing_of_more(store: BlobStore, tmp_path: Path) -> None:
    assert (await store.put(at("t1", "doc_1"), stream(b"x" * 99, b"y"), 100)).size == 100
    with pytest.raises(ApiError) as refused:
        await store.put(at("t1", "doc_1"), stream(b"x" * 99, b"y", b"z"), 100)
    assert (refused.value.code, refused.value.details) == (ErrorCode.PAYLOAD_TOO_LARGE, {"limit_bytes": 100})
    with pytest.raises(ApiError):
        await store.put(at("t1", "doc_2"), stream(bytes(5 * CHUNK)), 4 * CHUNK)
    assert await content(store) == b"x" * 99 + b"y"
    assert len(stored(tmp_path)) == 1


async def test_a_cancelled_put_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield os.urandom(40 * CHUNK)
        begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(store.put(at("t1", "doc_1"), endless()))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not stored(tmp_path)


async def test_a_damaged_file_is_never_fetched_and_the_place_stays_clean(store: BlobStore, tmp_path: Path) -> None:
    await store.put(at("t1", "doc_1"), stream(os.urandom(40 * CHUNK)))
    (path,) = stored(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with TemporaryFile() as out, pytest.raises(ApiError) as failure:
        await store.fetch("t1", "doc_1", out)
    assert failure.value.code is ErrorCode.DECRYPTION_FAILED


async def test_files_moved_between_tenants_or_names_are_refused(store: BlobStore, tmp_path: Path) -> None:
    await store.put(at("t1", "doc_1"), stream(b"of t1"))
    (mine,) = stored(tmp_path)
    for tenant, blob in (("t2", "doc_1"), ("t1", "doc_2")):
        before = set(stored(tmp_path))
        await store.put(at(tenant, blob), stream(b"theirs"))
        (theirs,) = set(stored(tmp_path)) - before
        theirs.write_bytes(mine.read_bytes())
        with pytest.raises(ApiError) as refused:
            await content(store, tenant, blob)
        assert refused.value.code is ErrorCode.DECRYPTION_FAILED


async def test_tenants_with_the_same_names_do_not_meet(store: BlobStore) -> None:
    await store.put(at("t1", "doc_1"), stream(b"one"))
    await store.put(at("t2", "doc_1"), stream(b"two"))
    await store.delete("t1", "doc_1")
    assert not await store.exists("t1", "doc_1")
    assert await content(store, "t2") == b"two"


@pytest.mark.parametrize(("tenant", "blob"), [("../t2", "a"), ("t1/t2", "a"), ("T1", "a"), ("", "a"), ("t1", "../t2/a"), ("t1", "")])
async def test_names_that_reach_elsewhere_are_refused(store: BlobStore, tenant: str, blob: str) -> None:
    with pytest.raises(ApiError) as refused:
        await store.put(at(tenant, blob), stream(b"x"))
    assert refused.value.code is ErrorCode.BAD_REQUEST


async def test_a_missing_file_is_not_found(store: BlobStore, tmp_path: Path) -> None:
    with TemporaryFile() as out:
        for attempt in (content(store), store.fetch("t1", "doc_1", out)):
            with pytest.raises(ApiError) as missing:
                await attempt
            assert missing.value.code is ErrorCode.NOT_FOUND
    assert not stored(tmp_path)


async def test_another_master_key_says_so_and_the_right_one_reads_on(store: BlobStore, tmp_path: Path) -> None:
    await store.put(at("t1", "doc_1"), stream(b"kept"))
    with pytest.raises(ApiError, match="CRYPTO_LOCAL_MASTER_KEY"):
        await content(opened(tmp_path, KEY[::-1]))
    assert await content(opened(tmp_path)) == b"kept"


def test_no_key_no_store(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="CRYPTO_LOCAL_MASTER_KEY"):
        opened(tmp_path, "")


@pytest.mark.slow
def test_a_full_disk_while_fetching_leaves_nothing(tmp_path: Path) -> None:
    script = """
import asyncio, resource, sys
from pathlib import Path
from tempfile import TemporaryFile
from nexusrag.kernel.errors import ApiError
from nexusrag.security.crypto.store import Reserved, open_blob_store
from nexusrag.settings import load
async def data():
    yield bytes(3_000_000)
async def main():
    home = Path(sys.argv[1])
    store = open_blob_store(load(home, {"CRYPTO_LOCAL_MASTER_KEY": sys.argv[2]}))
    await store.put(Reserved("t1", "a", ""), data())
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    try:
        with TemporaryFile(dir=home) as out:
            await store.fetch("t1", "a", out)
    except ApiError as error:
        print(error.code)
asyncio.run(main())
"""
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path), KEY], capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout == "SERVICE_UNAVAILABLE\n", run.stderr
