"""Types of audit event. A later part of the product adds its own; none is renamed."""

from enum import StrEnum


class EventType(StrEnum):
    ACCESS_SUCCESS = "auth.access.success"
    ACCESS_FAILURE = "auth.access.failure"
    API_KEY_CREATED = "auth.api_key.created"
    API_KEY_REVOKED = "auth.api_key.revoked"
    RBAC_FORBIDDEN = "rbac.forbidden"
    AUTHZ_DENIED = "authz.access.denied"
    CORPORA_CREATED = "corpora.created"
    CORPORA_UPDATED = "corpora.updated"
    CORPORA_DELETED = "corpora.deleted"
    DOCUMENTS_INGEST_ENQUEUED = "documents.ingest.enqueued"
    DOCUMENTS_REINDEX_ENQUEUED = "documents.reindex.enqueued"
    DOCUMENTS_DELETED = "documents.deleted"
    RUN_INVOKED = "run.invoked"
    RUN_CANCELLED = "run.cancelled"
    OPS_VIEWED = "ops.viewed"
    SYSTEM_ERROR = "system.error"
