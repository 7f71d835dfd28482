"""What the routes of provisioning demand: a token of the tenant's own for resources, an admin for tokens.

Events say which attributes changed, so the services add them. A client repeats its requests by its own rules: no Idempotency-Key.
Provisioning counts no units: whoever leaves is disabled by it, and a directory that is kept in step must not use up what people work with.
"""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.kernel.principal import Credential
from nexusrag.web.gate import Gate, gate


def _provision(on: Resource | None = None, *, transaction: bool = True, despite_freeze: bool = False) -> Gate:
    return gate(
        Action.SCIM_PROVISION,
        on,
        feature=Feature.SCIM,
        credentials=frozenset({Credential.SCIM}),
        idempotent=False,
        enveloped=False,
        transaction=transaction,
        despite_freeze=despite_freeze,
        units=0,
    )


PROVISION = _provision()
ASK = _provision(despite_freeze=True)
PERSON = _provision(Resource.USER)
GROUP = _provision(Resource.GROUP)
DESCRIBE = _provision(transaction=False)

CREATE_TOKEN = gate(Action.SCIM_TOKENS_MANAGE, feature=Feature.SCIM, audit=EventType.SCIM_TOKEN_CREATED, shown_once="token")
# Whose plan has lost the feature, or where it is switched off, can still take a token away.
REVOKE_TOKEN = gate(Action.SCIM_TOKENS_MANAGE, Resource.SCIM_TOKEN, at="body", units=0)
LIST_TOKENS = gate(Action.SCIM_TOKENS_MANAGE, units=0)
