"""What other domains may ask of credentials."""

from nexusrag.identity.credentials.access_tokens import AccessTokens
from nexusrag.identity.credentials.cache import CredentialCache
from nexusrag.identity.credentials.checks import actions_of, checked, of_credential, person, still_good
from nexusrag.identity.credentials.peek import peek
from nexusrag.identity.credentials.persons import plan_of, principal_of
from nexusrag.identity.credentials.repository import end_sessions, find_session, revoke_keys
from nexusrag.identity.credentials.stage import settle
from nexusrag.infra.changes import CREDENTIAL, PERSON, TENANT

__all__ = [
    "CREDENTIAL",
    "PERSON",
    "TENANT",
    "AccessTokens",
    "CredentialCache",
    "actions_of",
    "checked",
    "end_sessions",
    "find_session",
    "of_credential",
    "peek",
    "person",
    "plan_of",
    "principal_of",
    "revoke_keys",
    "settle",
    "still_good",
]
