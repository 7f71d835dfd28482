"""Objects in a bucket of S3 or of a compatible store. Large ones go up in parts, one at a time: memory stays bounded.

Import this module only where S3 is wanted: boto3 takes a third of a second to import.
"""

import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.providers.storage.port import PIECE, checked, pieces
from nexusrag.providers.storage.threads import Threads

T = TypeVar("T")
# All parts but the last have this one size, which some S3-compatible stores demand; 10,000 of them make 80 GB.
PART = 8 * 1024 * 1024
_ABSENT = {"404", "NoSuchKey", "NotFound"}


class S3Storage:
    """A `Storage` in one bucket. boto3 finds credentials and region (environment, profile, instance role)."""

    def __init__(self, bucket: str, prefix: str = "", endpoint_url: str = "") -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint_url = endpoint_url or None
        self._threads = Threads(16)
        self._lock = threading.Lock()
        self._client: Any = None

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        place = self._place(key)
        parts = pieces(chunks, PART)
        first = await anext(parts, b"")
        second = await anext(parts, b"")
        if not second:
            await self._call("put_object", **place, Body=first)
            return len(first)
        return await self._put_parts(place, first, second, parts)

    async def _put_parts(self, place: dict[str, str], first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> int:
        upload = _Upload(place)
        try:
            await self._run(partial(upload.begin, self._connected))
            for part in (first, second):
                await self._run(partial(upload.add, part))
            async for part in rest:
                await self._run(partial(upload.add, part))
            await self._run(upload.complete)
        except BaseException:
            # Parts of an upload that nobody completes or aborts are kept, and billed, for ever.
            with contextlib.suppress(ApiError):
                await self._run(upload.abort)
            raise
        return upload.size

    async def get(self, key: str) -> AsyncGenerator[bytes, None]:
        body = (await self._call("get_object", **self._place(key)))["Body"]
        try:
            while piece := await self._run(partial(body.read, PIECE)):
                yield piece
        finally:
            body.close()

    async def delete(self, key: str) -> None:
        await self._call("delete_object", **self._place(key))

    async def clear(self, key: str) -> None:
        try:
            await self._run(partial(_abort_all, self._connected, self._place(key)))
        finally:
            await self.delete(key)

    async def exists(self, key: str) -> bool:
        try:
            await self.size(key)
        except ApiError as error:
            if error.code is ErrorCode.NOT_FOUND:
                return False
            raise
        return True

    async def size(self, key: str) -> int:
        return int((await self._call("head_object", **self._place(key)))["ContentLength"])

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked(key)}

    async def _call(self, operation: str, **arguments: Any) -> Any:
        return await self._run(lambda: getattr(self._connected(), operation)(**arguments))

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(work)
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code")) in _ABSENT:
                raise not_found("file") from None
            raise _unavailable() from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise _unavailable() from error

    def _connected(self) -> Any:
        with self._lock:  # making a client is not thread-safe; using one is
            if self._client is None:
                config = Config(
                    connect_timeout=5,
                    read_timeout=20,
                    retries={"mode": "standard", "total_max_attempts": 3},
                    # Newer checksums are unknown to many compatible stores, and the format of the files detects damage by itself.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                self._client = boto3.client("s3", endpoint_url=self._endpoint_url, config=config)
            return self._client


class _Upload:
    """A multipart upload. Holds its id from the moment that the store gave it, so that a cancelled caller can still abort it."""

    def __init__(self, place: dict[str, str]) -> None:
        self._place: dict[str, Any] = dict(place)
        self._client: Any = None
        self._parts: list[dict[str, Any]] = []
        self.size = 0

    def begin(self, connected: Callable[[], Any]) -> None:
        self._client = connected()
        self._place["UploadId"] = self._client.create_multipart_upload(**self._place)["UploadId"]

    def add(self, part: bytes) -> None:
        number = len(self._parts) + 1
        etag = self._client.upload_part(**self._place, PartNumber=number, Body=part)["ETag"]
        self._parts.append({"PartNumber": number, "ETag": etag})
        self.size += len(part)

    def complete(self) -> None:
        self._client.complete_multipart_upload(**self._place, MultipartUpload={"Parts": self._parts})

    def abort(self) -> None:
        if "UploadId" in self._place:
            self._client.abort_multipart_upload(**self._place)


def _abort_all(connected: Callable[[], Any], place: dict[str, str]) -> None:
    """Abort the multipart uploads of one key: their parts are seen by no listing of objects."""
    client = connected()
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=place["Bucket"], Prefix=place["Key"])
    begun = [upload["UploadId"] for page in pages for upload in page.get("Uploads", ()) if upload["Key"] == place["Key"]]
    for upload_id in begun:
        client.abort_multipart_upload(**place, UploadId=upload_id)


def _unavailable() -> ApiError:
    return ApiError(ErrorCode.SERVICE_UNAVAILABLE, "The object store cannot be used. Check its address, bucket and credentials.")
