"""Objects in a bucket, against a real HTTP server that speaks the protocol."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.providers.storage.s3 import PART, S3Storage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def client(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint)


@pytest.fixture
def bucket(client: Any) -> str:
    name = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def storage(endpoint: str, bucket: str) -> S3Storage:
    return S3Storage(bucket, "rag/files/", endpoint)


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def content(storage: S3Storage, key: str) -> bytes:
    return b"".join([part async for part in storage.get(key)])


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART + 5])
async def test_what_is_put_comes_back_under_the_prefix(storage: S3Storage, client: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    assert await storage.put("t1/doc_1", stream(data[:100], data[100:])) == size
    assert await content(storage, "t1/doc_1") == data
    assert await storage.size("t1/doc_1") == size
    assert client.head_object(Bucket=bucket, Key="rag/files/t1/doc_1")["ContentLength"] == size


async def test_a_missing_object_is_not_found_and_deleting_it_is_fine(storage: S3Storage) -> None:
    await storage.delete("t1/none")
    assert not await storage.exists("t1/none")
    for attempt in (content(storage, "t1/none"), storage.size("t1/none")):
        with pytest.raises(ApiError) as missing:
            await attempt
        assert missing.value.code is ErrorCode.NOT_FOUND


async def test_delete_removes_the_object(storage: S3Storage) -> None:
    await storage.put("t1/a", stream(b"a"))
    assert await storage.exists("t1/a")
    await storage.delete("t1/a")
    assert not await storage.exists("t1/a")


async def test_clearing_a_key_removes_the_object_and_the_uploads_that_a_dead_writer_left(
    storage: S3Storage, client: Any, bucket: str
) -> None:
    await storage.put("t1/a", stream(b"a"))
    for key in ("t1/a", "t1/a", "t1/ab"):
        begun = client.create_multipart_upload(Bucket=bucket, Key=f"rag/files/{key}")
        client.upload_part(Bucket=bucket, Key=f"rag/files/{key}", UploadId=begun["UploadId"], PartNumber=1, Body=b"part")
    await storage.clear("t1/a")
    assert not await storage.exists("t1/a")
    left = [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket)["Uploads"]]
    assert left == ["rag/files/t1/ab"]
    await storage.clear("t1/none")


async def test_keys_outside_the_rule_are_refused(storage: S3Storage) -> None:
    with pytest.raises(ApiError) as refused:
        await storage.put("../x", stream(b"x"))
    assert refused.value.code is ErrorCode.BAD_REQUEST


async def test_a_failing_source_leaves_the_old_object_and_no_open_upload(storage: S3Storage, client: Any, bucket: str) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield bytes(3 * PART)
        raise RuntimeError("source broke")

    await storage.put("t1/a", stream(b"old"))
    for key in ("t1/a", "t1/b"):
        with pytest.raises(RuntimeError, match="source broke"):
            await storage.put(key, breaking())
    assert await content(storage, "t1/a") == b"old"
    assert not await storage.exists("t1/b")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


async def test_a_cancelled_upload_leaves_nothing(storage: S3Storage, client: Any, bucket: str) -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(2 * PART + 1)
        begun.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(storage.put("t1/a", endless()))
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not await storage.exists("t1/a")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


async def test_a_store_that_is_away_or_misnamed_is_a_clean_answer(endpoint: str) -> None:
    for storage in (S3Storage("no-such-bucket", "", endpoint), S3Storage("bucket", "", "http://127.0.0.1:9")):
        with pytest.raises(ApiError) as away:
            await storage.put("t1/a", stream(b"x"))
        assert away.value.code is ErrorCode.SERVICE_UNAVAILABLE
