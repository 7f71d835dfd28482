"""What each route of single sign-on demands."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.features import Feature
from nexusrag.web.gate import gate, public

_MANAGE = Action.IDENTITY_PROVIDERS_MANAGE

LIST = gate(Action.IDENTITY_PROVIDERS_READ, feature=Feature.SSO, units=0)
CREATE = gate(_MANAGE, feature=Feature.SSO, audit=EventType.PROVIDER_CREATED)
CHANGE = gate(_MANAGE, Resource.PROVIDER, feature=Feature.SSO, audit=EventType.PROVIDER_UPDATED)
ENABLE = gate(_MANAGE, Resource.PROVIDER, feature=Feature.SSO, audit=EventType.PROVIDER_ENABLED)
# Whose plan has lost the feature, or whose units are used up, can still end the logins that there are.
DISABLE = gate(_MANAGE, Resource.PROVIDER, audit=EventType.PROVIDER_DISABLED, units=0)

DISCOVER = public("whoever chooses a provider is not logged in yet; switched off unless SSO_PUBLIC_DISCOVERY_ENABLED")
START = public("whoever logs in has no credential yet")
CALLBACK = public("the login under way is the credential: a state that is used once, bound to the browser")
