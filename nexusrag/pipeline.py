"""THE order of the stages that a request passes. Between `before` and `within` the route class reads the body and opens the transaction."""

from nexusrag.access.policies import stage as policies
from nexusrag.access.roles import stage as roles
from nexusrag.billing.plans import stage as plans
from nexusrag.identity.credentials import stage as credentials
from nexusrag.identity.tenants import stage as tenants
from nexusrag.knowledge import visibility
from nexusrag.security.audit import facade as audit
from nexusrag.web import bulkhead, idempotency, load
from nexusrag.web.stage import Pipeline

PIPELINE = Pipeline(
    before=(credentials.STAGE, tenants.STAGE, roles.STAGE, plans.STAGE, policies.BIND),
    within=(tenants.BODY_STAGE, load.STAGE, visibility.STAGE, policies.STAGE, idempotency.STAGE, bulkhead.STAGE),
    closing=(audit.closing, idempotency.store),
    denied=audit.denied,
)
