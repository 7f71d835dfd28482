"""A file that no row names has a job that removes it: in both stores, whatever became of whoever stored it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import boto3
import pytest
from moto.server import ThreadedMotoServer

from nexusrag.domains import DOMAINS
from nexusrag.infra.database import Database
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.ids import new_id
from nexusrag.process import open_process
from nexusrag.security.crypto.facade import BlobStore, Reserved
from nexusrag.settings import Settings
from tests.support.installation import Servers, working
from tests.support.processes import until

JOBS = "select * from jobs where tenant_id = $1"


class Shelf(NamedTuple):
    """A store that nobody else uses, and a queue without a worker."""

    servers: Servers
    settings: Settings
    blobs: BlobStore
    database: Database
    tenant: str

    async def reserved(self) -> Reserved:
        async with self.database.work(self.tenant) as work:
            return await self.blobs.reserve(work)

    async def stored(self) -> Reserved:
        reserved = await self.reserved()
        await self.blobs.put(reserved, content())
        return reserved

    async def kept(self, reserved: Reserved) -> None:
        async with self.database.work(self.tenant) as work:
            await self.blobs.keep(work, reserved)

    async def there(self, reserved: Reserved) -> bool:
        return await self.blobs.exists(self.tenant, reserved.blob_id)

    async def sql(self, statement: str) -> list[Any]:
        admin = await self.servers.admin()
        try:
            return list(await admin.fetch(statement, self.tenant))
        finally:
            await admin.close()

    async def an_hour_passes(self) -> None:
        """Every reservation runs out, and a worker does what is due."""
        await self.sql("update jobs set run_at = now() where tenant_id = $1")
        async with working(self.settings):

            async def done() -> bool:
                return {job["state"] for job in await self.sql(JOBS)} <= {"succeeded"}

            await until(done)


async def content() -> AsyncIterator[bytes]:
    yield b"To be named or not to be."


@asynccontextmanager
async def shelf_of(servers: Servers, **env: str) -> AsyncIterator[Shelf]:
    settings = servers.with_env(INGEST_QUEUE_NAME=new_id("queue"), **env)
    async with open_process(settings, DOMAINS) as resources:
        yield Shelf(servers, settings, resources.get(BlobStore), resources.get(Database), new_id("t").replace("_", "-"))


@pytest.fixture
async def shelf(servers: Servers) -> AsyncIterator[Shelf]:
    async with shelf_of(servers) as made:
        yield made


@pytest.fixture
def bucket() -> Iterator[dict[str, str]]:
    """Settings of an S3 store."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="files")
        yield {"BLOB_STORE": "s3", "S3_BUCKET": "files", "S3_ENDPOINT_URL": endpoint}
        server.stop()


async def one_of_each(shelf: Shelf) -> None:
    """Of a kept and an abandoned file, the first stays."""
    kept, abandoned, never_stored = await shelf.stored(), await shelf.stored(), await shelf.reserved()
    await shelf.kept(kept)
    assert len(await shelf.sql(JOBS)) == 2
    await shelf.an_hour_passes()
    assert [await shelf.there(reserved) for reserved in (kept, abandoned, never_stored)] == [True, False, False]


@pytest.mark.slow
async def test_a_file_that_is_not_kept_is_removed_from_a_directory(shelf: Shelf) -> None:
    await one_of_each(shelf)


@pytest.mark.slow
async def test_a_file_that_is_not_kept_is_removed_from_s3(servers: Servers, bucket: dict[str, str]) -> None:
    async with shelf_of(servers, **bucket) as shelf:
        await one_of_each(shelf)


async def test_it_is_left_alone_while_it_may_still_be_kept(shelf: Shelf) -> None:
    await shelf.stored()
    (job,) = await shelf.sql("select kind, run_at - now() as wait from jobs where tenant_id = $1")
    assert job["kind"] == "blob.abandoned"
    assert 3500 < job["wait"].total_seconds() <= 3600


async def test_what_was_taken_back_leaves_neither_file_nor_job(shelf: Shelf) -> None:
    reserved = await shelf.stored()
    await shelf.blobs.take_back(shelf.database, reserved)
    assert (await shelf.there(reserved), await shelf.sql(JOBS)) == (False, [])


@pytest.mark.parametrize("state", ["running", "queued", "succeeded"])
async def test_a_file_whose_removal_has_begun_can_no_longer_be_kept(shelf: Shelf, state: str) -> None:
    """Also when the worker handed the job back: it may have removed the file by then."""
    reserved = await shelf.stored()
    await shelf.sql(f"update jobs set epoch = 1, state = '{state}' where tenant_id = $1")
    with pytest.raises(ApiError) as late:
        await shelf.kept(reserved)
    assert late.value.code is ErrorCode.SERVICE_UNAVAILABLE
    assert len(await shelf.sql(JOBS)) == 1


async def test_a_transaction_that_is_rolled_back_keeps_nothing(shelf: Shelf) -> None:
    reserved = await shelf.stored()
    with pytest.raises(KeyError):
        async with shelf.database.work(shelf.tenant) as work:
            await shelf.blobs.keep(work, reserved)
            raise KeyError
    await shelf.kept(reserved)
