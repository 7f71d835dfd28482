"""A disk that fills up during an upload: a coded refusal, and nothing half stored."""

import resource
from pathlib import Path

import httpx
import pytest

from nexusrag.identity.api_keys.provision import create_key
from nexusrag.kernel.ids import new_id
from tests.support.api import Person, error_of
from tests.support.installation import Servers, http
from tests.support.processes import Process, api_process

pytestmark = [pytest.mark.slow]
LIMIT = 200_000


def fill_disk(process: Process, full: bool) -> None:
    """From now on the process can write no file beyond `LIMIT` bytes: it gets EFBIG, as ENOSPC from a full disk."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (LIMIT if full else resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def files(directory: Path) -> set[str]:
    return {str(path) for path in directory.rglob("*") if path.is_file()}


async def person_at(servers: Servers, url: str) -> tuple[httpx.AsyncClient, Person]:
    admin = await servers.admin()
    try:
        pepper = servers.settings.auth.auth_key_pepper.get_secret_value()
        made = await create_key(admin, pepper=pepper, tenant=new_id("t").replace("_", "-"), role="admin", name="Test")
    finally:
        await admin.close()
    client = http(url, made["api_key"])
    return client, Person(client, made)


# The first fits into memory while it is received, the second is spooled to the disk by then.
@pytest.mark.parametrize("size", [500_000, 3_000_000])
async def test_an_upload_that_does_not_fit_leaves_neither_row_nor_file(servers: Servers, tmp_path: Path, size: int) -> None:
    blobs = tmp_path / "blobs"
    async with api_process(servers, BLOB_DIRECTORY=str(blobs), INGEST_EXECUTION_MODE="inline") as (process, url):
        client, person = await person_at(servers, url)
        async with client:
            corpus = await person.corpus()
            await person.text(corpus, "This one fits.")
            before = files(blobs)
            fill_disk(process, True)
            refused = await person.upload(corpus, "large.txt", b"whale oil " * (size // 10), document_id="large")
            assert error_of(refused) == ("SERVICE_UNAVAILABLE", 503)
            assert "disk" in refused.json()["error"]["message"]
            assert (await person.get("/v1/documents/large")).status_code == 404
            assert files(blobs) == before
            admin = await servers.admin()
            try:
                for rows in ("documents where true", "jobs where kind = 'document.ingest'", "document_versions where true"):
                    assert await admin.fetchval(f"select count(*) from {rows} and tenant_id = $1", person.tenant) == 1, rows
            finally:
                await admin.close()
            # Reading, asking and what is small go on.
            assert (await person.search(corpus, "What fits?")) != []
            fill_disk(process, False)
            accepted = await person.upload(corpus, "large.txt", b"whale oil " * (size // 10), document_id="large")
            assert accepted.status_code == 202
            assert (await person.settled("large"))["status"] == "succeeded"
