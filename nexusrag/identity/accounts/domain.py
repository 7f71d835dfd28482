"""Manifest of accounts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nexusrag.identity.accounts import jobs, models, repository, routes
from nexusrag.identity.accounts.passwords import Passwords
from nexusrag.infra.resources import Resources
from nexusrag.kernel.actions import Resource
from nexusrag.web.domain import Cron, Domain


@asynccontextmanager
async def _passwords(resources: Resources) -> AsyncIterator[None]:
    passwords = resources.put(Passwords, Passwords())
    try:
        yield
    finally:
        passwords.close()


domain = Domain(
    name="accounts",
    wing="identity",
    routers=(routes.router, routes.invitations),
    models=(models.AuthSession, models.Invitation),
    loaders={Resource.AUTH_SESSION: repository.load_session, Resource.INVITATION: repository.load_invitation},
    crons=(Cron(name="sweep accounts", every_s=3600, run=jobs.sweep, can_wait=True),),
    opens=(_passwords,),
)
