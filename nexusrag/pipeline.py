"""THE order of the stages that a request passes. Between `before` and `within` the route class reads the body and opens the transaction."""

from nexusrag.access.roles import stage as roles
from nexusrag.identity.api_keys import stage as api_keys
from nexusrag.identity.tenants import stage as tenants
from nexusrag.knowledge import visibility
from nexusrag.security.audit import facade as audit
from nexusrag.web import bulkhead, idempotency, load
from nexusrag.web.stage import Pipeline

PIPELINE = Pipeline(
    before=(api_keys.STAGE, tenants.STAGE, roles.STAGE),
    within=(tenants.BODY_STAGE, load.STAGE, visibility.STAGE, idempotency.STAGE, bulkhead.STAGE),
    closing=(audit.closing, idempotency.store),
    denied=audit.denied,
)
