"""Background functions of stored files. Each may run twice and has its effect once."""

from nexusrag.infra.jobs import Job
from nexusrag.security.crypto.store import BlobStore


async def remove(job: Job) -> None:
    """Remove a file that no row names any more."""
    await job.resources.get(BlobStore).delete(job.tenant_id, job.args["blob_id"])


async def clear_abandoned(job: Job) -> None:
    """Remove what there is of a file that was reserved and not kept: whoever was to name it failed or died."""
    await job.resources.get(BlobStore).clear(job.tenant_id, job.args["blob_id"])
