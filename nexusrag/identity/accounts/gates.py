"""What each account route demands. No password and no token is stored for repetition.

What ends a session or takes an invitation back counts no units, and neither do the lists in which they are found.
"""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.kernel.events import EventType
from nexusrag.kernel.principal import Credential
from nexusrag.web.gate import gate, public

_LOGINS = frozenset({Credential.SESSION})

REGISTER = public("who registers has no credential yet; an invitation, where one is needed, stands in the body")
# Whoever lifts a freeze must be able to come in.
LOGIN = public("who logs in has no credential yet", despite_freeze=True)
REFRESH = public("the refresh token in the body is the credential", despite_freeze=True)
ME = gate(Action.ACCOUNT_READ)
LIST_SESSIONS = gate(Action.ACCOUNT_READ, units=0)
END_SESSION = gate(Action.ACCOUNT_MANAGE, Resource.AUTH_SESSION, audit=EventType.LOGOUT, units=0)
LOGOUT = gate(Action.ACCOUNT_MANAGE, credentials=_LOGINS, audit=EventType.LOGOUT, despite_freeze=True, units=0)
CHANGE_PASSWORD = gate(Action.ACCOUNT_MANAGE, credentials=_LOGINS, audit=EventType.PASSWORD_CHANGED, idempotent=False, units=0)

INVITE = gate(Action.INVITATIONS_MANAGE, audit=EventType.INVITATION_CREATED, shown_once="token")
LIST_INVITATIONS = gate(Action.INVITATIONS_MANAGE, units=0)
REVOKE_INVITATION = gate(Action.INVITATIONS_MANAGE, Resource.INVITATION, audit=EventType.INVITATION_REVOKED, units=0)
