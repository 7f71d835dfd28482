"""Use cases of corpora."""

from typing import Any

from sqlalchemy.exc import IntegrityError

from nexusrag.access.policies.facade import caller_of
from nexusrag.billing.plans.facade import require
from nexusrag.infra.jobs import UNTIL_DONE, enqueue
from nexusrag.infra.redis import Redis
from nexusrag.kernel import clock
from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.kernel.features import Feature
from nexusrag.kernel.ids import new_id
from nexusrag.knowledge.corpora import config, repository
from nexusrag.knowledge.corpora.models import Corpus, CorpusView
from nexusrag.knowledge.corpora.schemas import CorpusCreate, CorpusDeletion, CorpusOut, CorpusPatch
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext

REMOVE = "corpus.remove"


def describe(call: CallContext, corpus: Corpus | CorpusView) -> dict[str, Any]:
    """What policies may ask of a corpus."""
    return {
        "id": corpus.id,
        "name": corpus.name,
        "visibility": corpus.visibility,
        "owner": corpus.created_by,
        "created_at": clock.seconds(corpus.created_at),
    }


async def list_corpora(call: CallContext) -> list[CorpusOut]:
    """Those that no policy hides from the caller."""
    caller = caller_of(call)
    return [
        CorpusOut.of(corpus)
        for corpus in await repository.newest_first(call.db)
        if caller.decide(Resource.CORPUS, "read", describe(call, corpus)).denied_by is None
    ]


async def create(call: CallContext, body: CorpusCreate) -> CorpusOut:
    """Raises RETRIEVAL_CONFIG_INVALID for a malformed configuration, FEATURE_NOT_ENABLED for a provider that the plan lacks,
    CONFLICT when the id is taken."""
    provider_config = config.normalised(body.provider_config_json)
    require(call.principal, config.feature_of(provider_config))
    corpus = Corpus(
        tenant_id=call.tenant_id,
        id=body.id or new_id("corpus"),
        name=body.name,
        visibility=body.visibility,
        provider_config=provider_config,
        created_by=call.principal.subject_id,
    )
    try:
        async with call.session.begin_nested():
            call.session.add(corpus)
    except IntegrityError as error:
        raise ApiError(ErrorCode.CONFLICT, "A corpus with this id exists, or is still being deleted.") from error
    call.about(Resource.CORPUS, corpus.id)
    return CorpusOut.of(corpus)


async def update(call: CallContext, corpus: Corpus, patch: CorpusPatch) -> CorpusOut:
    """Raises RETRIEVAL_CONFIG_INVALID for a malformed configuration, FEATURE_NOT_ENABLED where the plan lacks its provider or does not
    let it be changed, AUTH_FORBIDDEN when a non-admin changes the visibility."""
    if patch.provider_config_json is not None:
        wanted = config.normalised(patch.provider_config_json)
        if wanted != corpus.provider_config:
            require(call.principal, Feature.CORPORA_PATCH)
            require(call.principal, config.feature_of(wanted))
            corpus.provider_config = wanted
    if patch.name is not None:
        corpus.name = patch.name
    if patch.visibility is not None and patch.visibility != corpus.visibility:
        # It decides about other people's documents.
        if not call.principal.may(Action.PERMISSIONS_MANAGE):
            raise ApiError(ErrorCode.AUTH_FORBIDDEN, "Changing who may read a corpus needs the role admin.", {"required_role": "admin"})
        corpus.visibility = patch.visibility
    await call.session.flush()
    call.record(changed=sorted(patch.model_fields_set))
    return CorpusOut.of(corpus)


async def delete(call: CallContext, corpus: Corpus) -> CorpusDeletion:
    """Hide the corpus now and have a job remove what it held. Raises CONFLICT while documents are in flight."""
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
