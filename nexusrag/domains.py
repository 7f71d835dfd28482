"""THE list of domains, in the order in which a process opens them."""

from nexusrag.access.permissions.domain import domain as permissions
from nexusrag.access.policies.domain import domain as policies
from nexusrag.access.roles.domain import domain as roles
from nexusrag.agents.runs.domain import domain as runs
from nexusrag.agents.speech.domain import domain as speech
from nexusrag.billing.plans.domain import domain as plans
from nexusrag.console.bootstrap.domain import domain as bootstrap
from nexusrag.console.documents.domain import domain as console_documents
from nexusrag.governance.authorization.domain import domain as authorization
from nexusrag.identity.accounts.domain import domain as accounts
from nexusrag.identity.api_keys.domain import domain as api_keys
from nexusrag.identity.credentials.domain import domain as credentials
from nexusrag.identity.scim.domain import domain as scim
from nexusrag.identity.sso.domain import domain as sso
from nexusrag.identity.tenants.domain import domain as tenants
from nexusrag.identity.users.domain import domain as users
from nexusrag.inference.gateway.domain import domain as gateway
from nexusrag.knowledge.corpora.domain import domain as corpora
from nexusrag.knowledge.documents.domain import domain as documents
from nexusrag.knowledge.index.domain import domain as index
from nexusrag.knowledge.ingestion.domain import domain as ingestion
from nexusrag.knowledge.retrieval.domain import domain as retrieval
from nexusrag.operations.health.domain import domain as health
from nexusrag.operations.posture.domain import domain as posture
from nexusrag.security.audit.domain import domain as audit
from nexusrag.security.crypto.domain import domain as crypto
from nexusrag.web.domain import Domain

DOMAINS: tuple[Domain, ...] = (
    audit,
    crypto,
    roles,
    permissions,
    policies,
    plans,
    tenants,
    credentials,
    users,
    api_keys,
    accounts,
    sso,
    scim,
    gateway,
    corpora,
    index,
    documents,
    ingestion,
    retrieval,
    runs,
    speech,
    authorization,
    health,
    posture,
    bootstrap,
    console_documents,
)
