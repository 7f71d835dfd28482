"""What the routes of permissions demand. Managing them needs no permission on the document itself, and is always on record."""

from nexusrag.kernel.actions import Action, Resource
from nexusrag.web.gate import gate

LIST_OF_DOCUMENT = gate(Action.PERMISSIONS_READ, Resource.DOCUMENT)
CHANGE_OF_DOCUMENT = gate(Action.PERMISSIONS_MANAGE, Resource.DOCUMENT)
LIST_OF_CORPUS = gate(Action.PERMISSIONS_READ, Resource.CORPUS)
CHANGE_OF_CORPUS = gate(Action.PERMISSIONS_MANAGE, Resource.CORPUS)
