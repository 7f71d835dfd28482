"""Use cases of corpora."""

from sqlalchemy.exc import IntegrityError

from nexusrag.infra.jobs import UNTIL_DONE, enqueue
from nexusrag.infra.redis import Redis
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Role
from nexusrag.kernel.errors import ApiError, ErrorCode, not_found
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.corpora import config, repository
from nexusrag.knowledge.corpora.models import Corpus
from nexusrag.knowledge.corpora.schemas import CorpusCreate, CorpusDeletion, CorpusOut, CorpusPatch
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

REMOVE = "corpus.remove"


async def list_corpora(call: CallContext) -> list[CorpusOut]:
    return [CorpusOut.of(corpus) for corpus in await repository.newest_first(call.db)]


async def create(call: CallContext, body: CorpusCreate) -> CorpusOut:
    """Raises RETRIEVAL_CONFIG_INVALID for a malformed configuration, CONFLICT when the id is taken."""
    corpus = Corpus(
        tenant_id=call.tenant_id,
        id=body.id or new_id("corpus"),
        name=body.name,
        visibility=body.visibility,
        provider_config=config.normalised(body.provider_config_json),
        created_by=call.principal.subject_id,
    )
    try:
        async with call.session.begin_nested():
            call.session.add(corpus)
    except IntegrityError as error:
        raise ApiError(ErrorCode.CONFLICT, "A corpus with this id exists, or is still being deleted.") from error
    call.resource_id = corpus.id
    return CorpusOut.of(corpus)


async def update(call: CallContext, corpus: Corpus, patch: CorpusPatch) -> CorpusOut:
    """Raises RETRIEVAL_CONFIG_INVALID for a malformed configuration, AUTH_FORBIDDEN when a non-admin changes the visibility."""
    if patch.provider_config_json is not None:
        corpus.provider_config = config.normalised(patch.provider_config_json)
    if patch.name is not None:
        corpus.name = patch.name
    if patch.visibility is not None and patch.visibility != corpus.visibility:
        # It decides about other people's documents.
        if call.principal.role is not Role.ADMIN:
            raise ApiError(ErrorCode.AUTH_FORBIDDEN, "Changing who may read a corpus needs the role admin.", {"required_role": "admin"})
        corpus.visibility = patch.visibility
    await call.session.flush()
    call.record(changed=sorted(patch.model_fields_set))
    return CorpusOut.of(corpus)


async def delete(call: CallContext, corpus: Corpus) -> CorpusDeletion:
    """Hide the corpus now and have a job remove what it held. Raises CONFLICT while documents are in flight."""
    if not await repository.lock(call.db, corpus):
        raise not_found("corpus")
    busy = await repository.busy_documents(call.db, corpus)
    if busy:
        raise ApiError(ErrorCode.CONFLICT, f"{busy} documents of this corpus are in flight; try again when they are done.")
    corpus.deleted_at = clock.now()
    ingestion = call.of(Settings).ingestion
    job_id = await enqueue(call.db, REMOVE, {"corpus_key": corpus.key}, queue=ingestion.ingest_queue_name, max_attempts=UNTIL_DONE)

    async def wake() -> None:
        await call.of(Redis).wake(ingestion.ingest_queue_name)

    call.after_commit(wake)
    return CorpusDeletion(corpus_id=corpus.id, job_id=job_id)
