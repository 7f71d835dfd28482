"""Roles, the actions of the product with the least role for each, and the kinds of resource that a gate can name."""

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """Each role may do all that the roles before it may."""

    READER = "reader"
    EDITOR = "editor"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {Role.READER: 0, Role.EDITOR: 1, Role.ADMIN: 2}


class Action(StrEnum):
    CORPORA_READ = "corpora.read"
    CORPORA_WRITE = "corpora.write"
    CORPORA_CREATE = "corpora.create"
    CORPORA_DELETE = "corpora.delete"
    CORPORA_SEARCH = "corpora.search"
    DOCUMENTS_READ = "documents.read"
    DOCUMENTS_CREATE = "documents.create"
    DOCUMENTS_DELETE = "documents.delete"
    DOCUMENTS_REINDEX = "documents.reindex"
    RUNS_CREATE = "runs.create"
    RUNS_READ = "runs.read"
    RUNS_CANCEL = "runs.cancel"
    AUDIO_READ = "audio.read"
    OPS_READ = "ops.read"


LEAST_ROLE: Mapping[Action, Role] = {
    Action.CORPORA_READ: Role.READER,
    Action.CORPORA_WRITE: Role.EDITOR,
    Action.CORPORA_CREATE: Role.EDITOR,
    Action.CORPORA_DELETE: Role.ADMIN,
    Action.CORPORA_SEARCH: Role.READER,
    Action.DOCUMENTS_READ: Role.READER,
    Action.DOCUMENTS_CREATE: Role.EDITOR,
    Action.DOCUMENTS_DELETE: Role.EDITOR,
    Action.DOCUMENTS_REINDEX: Role.EDITOR,
    Action.RUNS_CREATE: Role.READER,
    Action.RUNS_READ: Role.READER,
    Action.RUNS_CANCEL: Role.READER,
    Action.AUDIO_READ: Role.READER,
    Action.OPS_READ: Role.ADMIN,
}


class Resource(StrEnum):
    """Kinds of resource; the owning domain registers how one is loaded."""

    CORPUS = "corpus"
    DOCUMENT = "document"
    RUN = "run"
    AUDIO = "audio"


class Permission(StrEnum):
    """What can be granted on a document. An owner may do everything."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    REINDEX = "reindex"
    OWNER = "owner"
