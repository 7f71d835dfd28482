"""THE list of domains, in the order in which a process opens them."""

from nexusrag.access.permissions.domain import domain as permissions
from nexusrag.access.policies.domain import domain as policies
from nexusrag.access.roles.domain import domain as roles
from nexusrag.agents.runs.domain import domain as runs
from nexusrag.agents.speech.domain import domain as speech
from nexusrag.billing.admission.domain import domain as admission
from nexusrag.billing.costs.domain import domain as costs
from nexusrag.billing.ledger.domain import domain as ledger
from nexusrag.billing.plans.domain import domain as plans
from nexusrag.billing.quotas.domain import domain as quotas
from nexusrag.billing.usage.domain import domain as usage
from nexusrag.billing.webhooks.domain import domain as webhooks
from nexusrag.console.activity.domain import domain as activity
from nexusrag.console.bootstrap.domain import domain as bootstrap
from nexusrag.console.dashboard.domain import domain as dashboard
from nexusrag.console.documents.domain import domain as console_documents
from nexusrag.flags.switches.domain import domain as switches
from nexusrag.governance.authorization.domain import domain as authorization
from nexusrag.identity.accounts.domain import domain as accounts
from nexusrag.identity.api_keys.domain import domain as api_keys
from nexusrag.identity.credentials.domain import domain as credentials
from nexusrag.identity.scim.domain import domain as scim
from nexusrag.identity.sso.domain import domain as sso
from nexusrag.identity.tenants.domain import domain as tenants
from nexusrag.identity.users.domain import domain as users
from nexusrag.inference.gateway.domain import domain as gateway
from nexusrag.inference.slots.domain import domain as slots
from nexusrag.knowledge.corpora.domain import domain as corpora
from nexusrag.knowledge.documents.domain import domain as documents
from nexusrag.knowledge.index.domain import domain as index
from nexusrag.knowledge.ingestion.domain import domain as ingestion
from nexusrag.knowledge.retrieval.domain import domain as retrieval
from nexusrag.operations.actions.domain import domain as ops_actions
from nexusrag.operations.autoscaling.domain import domain as autoscaling
from nexusrag.operations.health.domain import domain as health
from nexusrag.operations.maintenance.domain import domain as maintenance
from nexusrag.operations.posture.domain import domain as posture
from nexusrag.operations.sla.domain import domain as sla
from nexusrag.security.audit.domain import domain as audit
from nexusrag.security.crypto.domain import domain as crypto
from nexusrag.web.domain import Domain

DOMAINS: tuple[Domain, ...] = (
    audit,
    crypto,
    switches,
    roles,
    permissions,
    policies,
    plans,
    webhooks,
    ledger,
    costs,
    quotas,
    usage,
    admission,
    tenants,
    credentials,
    users,
    api_keys,
    accounts,
    sso,
    scim,
    slots,
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
    sla,
    autoscaling,
    ops_actions,
    maintenance,
    bootstrap,
    console_documents,
    activity,
    dashboard,
)
