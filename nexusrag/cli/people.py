"""Commands for tenants and their users: also the way back in when nobody is left who could help through the API."""

import sys
from pathlib import Path
from typing import Any

import asyncpg

from nexusrag.cli.admin import act_on, show
from nexusrag.identity.tenants import provision as tenants
from nexusrag.identity.users import provision as users
from nexusrag.settings import Settings


def list_users(home: Path | None, tenant: str, *, as_json: bool) -> None:
    """Print a tenant's users."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> list[dict[str, Any]]:
        return await users.list_users(connection, tenant)

    found = act_on(home, act)
    lines = [
        f"{one['id']}  {one['custom_role'] or one['role']:<10} {one['status']:<8} {one['email'] or one['display_name'] or ''}".rstrip()
        for one in found
    ]
    show({"items": found}, as_json, "\n".join(lines) or "No users.")


def set_role(home: Path | None, tenant: str, user_id: str, role: str) -> int:
    """Give a user a role; 1 when there is no such user."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> bool:
        return await users.set_role(connection, tenant, user_id, role)

    return _told(act_on(home, act), f"{user_id} has the role {role}.")


def set_active(home: Path | None, tenant: str, user_id: str, *, active: bool) -> int:
    """Enable or disable a user; 1 when there is no such user."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> bool:
        return await users.set_active(connection, tenant, user_id, active=active)

    return _told(act_on(home, act), f"{user_id} is {'active' if active else 'disabled'}.")


def list_tenants(home: Path | None, *, as_json: bool) -> None:
    """Print all tenants."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> list[dict[str, Any]]:
        return await tenants.list_tenants(connection)

    found = act_on(home, act)
    lines = [
        f"{tenant['id']:<20} {tenant['status']:<10} {tenant['name']}{'  (home)' if tenant['is_home'] else ''}".rstrip() for tenant in found
    ]
    show({"items": found}, as_json, "\n".join(lines) or "No tenants.")


def create_tenant(home: Path | None, tenant: str, name: str) -> None:
    """Make a tenant unless it is there."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> bool:
        return await tenants.create(connection, tenant, name)

    made = act_on(home, act)
    sys.stdout.write(f"tenant {tenant} ({'made' if made else 'was there'})\n")


def set_status(home: Path | None, tenant: str, *, active: bool) -> None:
    """Suspend a tenant or take it back."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> None:
        await tenants.set_status(connection, tenant, active=active)

    act_on(home, act)
    sys.stdout.write(f"tenant {tenant} is {'active' if active else 'suspended'}.\n")


def _told(found: bool, done: str) -> int:
    sys.stdout.write(f"{done}\n" if found else "There is no user with this id.\n")
    return 0 if found else 1
