"""From what a client sent to an `Incoming` document: names cleaned, types detected, parameters checked, before anything is stored."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import UploadFile
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile as StarletteUpload

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.knowledge.corpora.facade import CorpusView
from nexusrag.knowledge.documents.schemas import FileName, Metadata, Reindex, TextIngest
from nexusrag.knowledge.documents.service import Incoming
from nexusrag.knowledge.parsing.facade import check_chunk_params, detect
from nexusrag.settings import Settings
from nexusrag.web.body import parse_json
from nexusrag.web.call import CallContext

_PIECE = 256 * 1024
_HEAD = 4096
_NAME: TypeAdapter[str] = TypeAdapter(FileName)
_METADATA: TypeAdapter[dict[str, object]] = TypeAdapter(Metadata)


def of_file(file: UploadFile, document_id: str | None, overwrite: bool, metadata_json: str | None) -> Incoming:
    """Raises INGEST_VALIDATION_ERROR for an empty file, UNSUPPORTED_MEDIA_TYPE for content of another or unknown kind."""
    name = _NAME.validate_python(file.filename or "") or "document"
    head = file.file.read(_HEAD)
    file.file.seek(0)
    if not head:
        raise ApiError(ErrorCode.INGEST_VALIDATION_ERROR, "The file is empty.")
    return Incoming(
        filename=name,
        content_type=detect(name, file.content_type, head),
        ingest_source="upload_file",
        chunks=_pieces(file),
        document_id=document_id,
        overwrite=overwrite,
        metadata=_metadata(metadata_json),
    )


def of_text(call: CallContext, body: TextIngest) -> Incoming:
    """Raises INGEST_VALIDATION_ERROR for blank text or chunk parameters that do not fit together."""
    if not body.text.strip():
        raise ApiError(ErrorCode.INGEST_VALIDATION_ERROR, "The text is empty.")
    checked(call, Reindex(chunk_size_chars=body.chunk_size_chars, chunk_overlap_chars=body.chunk_overlap_chars))
    return Incoming(
        filename=body.filename or "text.txt",
        content_type="text/plain",
        ingest_source="raw_text",
        chunks=_one(body.text.encode()),
        document_id=body.document_id,
        overwrite=body.overwrite,
        metadata=body.metadata_json,
        chunk_size_chars=body.chunk_size_chars,
        chunk_overlap_chars=body.chunk_overlap_chars,
    )


def checked(call: CallContext, body: Reindex) -> Reindex:
    """`body`, or INGEST_VALIDATION_ERROR when overlap and size do not fit together, defaults included."""
    ingestion = call.of(Settings).ingestion
    check_chunk_params(
        body.chunk_size_chars or ingestion.chunk_size_chars,
        ingestion.chunk_overlap_chars if body.chunk_overlap_chars is None else body.chunk_overlap_chars,
    )
    return body


def _metadata(given: str | None) -> dict[str, object]:
    if not given:
        return {}
    value = parse_json(given.encode())
    try:
        return _METADATA.validate_python(value)
    except ValidationError as error:
        raise ApiError(ErrorCode.VALIDATION_ERROR, f"metadata_json: {error.errors()[0]['msg']}") from error


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE):
        yield piece


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def describe(call: CallContext, corpus: CorpusView) -> dict[str, Any]:
    """What policies may ask of a document that is about to be made. What only the document itself will have is missing."""
    file = call.body.get("file")
    given = call.body.get("metadata_json") or {}
    metadata = given if isinstance(given, dict) else _metadata(given) if isinstance(given, str) else {}
    return {
        "id": call.body.get("document_id"),
        "corpus_id": corpus.id,
        "filename": file.filename if isinstance(file, StarletteUpload) else call.body.get("filename"),
        "owner": call.principal.subject_id,
        "labels": metadata.get("labels"),
        "metadata": metadata,
    }
