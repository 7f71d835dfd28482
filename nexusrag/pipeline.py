"""THE order of the stages that a request passes. Between `before` and `within` the route class reads the body and opens the transaction."""

from nexusrag.access.policies import stage as policies
from nexusrag.access.roles import stage as roles
from nexusrag.billing.admission import stage as admission
from nexusrag.billing.admission import strangers
from nexusrag.billing.costs import stage as costs
from nexusrag.billing.plans import stage as plans
from nexusrag.flags.switches import stage as switches
from nexusrag.identity.credentials import stage as credentials
from nexusrag.identity.tenants import stage as tenants
from nexusrag.knowledge import visibility
from nexusrag.operations.sla import stage as sla
from nexusrag.security.audit import facade as audit
from nexusrag.web import bulkhead, idempotency, load
from nexusrag.web.stage import Pipeline

PIPELINE = Pipeline(
    before=(
        strangers.STAGE,
        credentials.STAGE,
        tenants.STAGE,
        sla.GUARD,
        switches.STAGE,
        admission.STAGE,
        roles.STAGE,
        plans.STAGE,
        policies.BIND,
    ),
    within=(
        tenants.BODY_STAGE,
        load.STAGE,
        visibility.STAGE,
        policies.STAGE,
        idempotency.STAGE,
        bulkhead.STAGE,
        admission.QUOTA,
        costs.STAGE,
        sla.STAGE,
    ),
    closing=(audit.closing, idempotency.store),
    denied=audit.denied,
)
