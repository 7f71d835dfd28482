"""Manifest of users."""

from nexusrag.identity.users import models, repository, routes
from nexusrag.kernel.actions import Resource
from nexusrag.web.domain import Domain

domain = Domain(
    name="users",
    wing="identity",
    routers=(routes.router,),
    models=(models.User, models.Group, models.GroupMember, models.RoleChange),
    loaders={
        Resource.USER: repository.load_user,
        Resource.GROUP: repository.load_group,
        Resource.ROLE_CHANGE: repository.load_role_change,
    },
)
