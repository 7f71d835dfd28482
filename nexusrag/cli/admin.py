"""Commands that act on the database directly. They use the driver alone, since each has half a second."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from nexusrag.embedded.environment import attach
from nexusrag.identity.api_keys import provision
from nexusrag.identity.tenants.provision import list_tenants
from nexusrag.infra.urls import connect_arguments
from nexusrag.kernel.ids import is_client_id
from nexusrag.knowledge.corpora.provision import ensure_corpus
from nexusrag.settings import Settings, SettingsError, load

T = TypeVar("T")
_ROLES = ("reader", "editor", "admin")


def migrate(home: Path | None) -> None:
    """Migrate, print the revision reached, then build what indexes are missing."""
    from nexusrag.infra.migrate import migrate as run  # alembic and SQLAlchemy: only here
    from nexusrag.knowledge.index.spaces import build_indexes  # imports the same

    with attach(load(home)) as environment:
        url = _url(environment.settings)
        sys.stdout.write(f"The database is at revision {asyncio.run(run(url))}.\n")
        sys.stdout.flush()  # the rest may take its time
        for model in asyncio.run(build_indexes(url)):
            sys.stdout.write(f"The index of embedding model {model} is built.\n")


def create_key(home: Path | None, tenant: str, role: str, name: str, *, as_json: bool) -> None:
    """Make a key and print it."""
    if role not in _ROLES:
        raise SettingsError([f"--role: must be one of {', '.join(_ROLES)} (got {role!r})"])

    async def act(connection: "asyncpg.Connection[Any]", settings: Settings) -> dict[str, str]:
        pepper = settings.auth.auth_key_pepper.get_secret_value()
        return await provision.create_key(connection, pepper=pepper, tenant=tenant, role=role, name=name)

    made = act_on(home, act)
    show(made, as_json, f"key_id    {made['key_id']}\ntenant    {made['tenant_id']}\nrole      {made['role']}\napi_key   {made['api_key']}")


def list_keys(home: Path | None, tenant: str | None, *, inactive_only: bool, as_json: bool) -> None:
    """Print the keys of one tenant, or of all."""

    async def act(connection: "asyncpg.Connection[Any]", settings: Settings) -> list[dict[str, Any]]:
        days = settings.auth.auth_api_key_inactive_days if inactive_only else None
        owners = [tenant] if tenant else [one["id"] for one in await list_tenants(connection)]
        return [{"tenant_id": owner, **key} for owner in owners for key in await provision.list_keys(connection, owner, inactive_days=days)]

    found = act_on(home, act)
    lines = [
        f"{key['key_id']}  {key['key_prefix']}…  {key['tenant_id']}  {key['role']:<7} "
        f"{'revoked' if key['revoked_at'] else 'active':<8} {key['name'] or ''}"
        for key in found
    ]
    show({"items": found}, as_json, "\n".join(lines) or "No keys.")


def revoke_key(home: Path | None, key_id: str, tenant: str | None) -> int:
    """Revoke a key; 1 when there is none with this id."""

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> bool:
        owner = tenant or await _tenant_of(connection, key_id)
        return owner is not None and await provision.revoke_key(connection, owner, key_id)

    revoked = act_on(home, act)
    sys.stdout.write("Revoked.\n" if revoked else "There is no key with this id.\n")
    return 0 if revoked else 1


def rotate_key(home: Path | None, key_id: str, tenant: str | None, grace_hours: int | None, *, as_json: bool) -> int:
    """Make a key in place of another and print it; 1 when there is none with this id."""

    async def act(connection: "asyncpg.Connection[Any]", settings: Settings) -> dict[str, Any] | None:
        owner = tenant or await _tenant_of(connection, key_id)
        if owner is None:
            return None
        pepper = settings.auth.auth_key_pepper.get_secret_value()
        grace = None if grace_hours is None else timedelta(hours=grace_hours)
        return await provision.rotate_key(connection, pepper=pepper, tenant=owner, key_id=key_id, grace=grace)

    made = act_on(home, act)
    if made is None:
        sys.stdout.write("There is no key with this id.\n")
        return 1
    ends = made["old_key_expires_at"]
    lines = [f"key_id    {made['key_id']}", f"tenant    {made['tenant_id']}", f"role      {made['role']}", f"api_key   {made['api_key']}"]
    until = "until it is revoked" if ends is None else f"until {ends:%Y-%m-%d %H:%M:%S} UTC" if grace_hours != 0 else "no more"
    lines += [f"old key   {made['replaces']}, works {until}"]
    show(made, as_json, "\n".join(lines))
    return 0


async def _tenant_of(connection: "asyncpg.Connection[Any]", key_id: str) -> str | None:
    try:
        return await provision.tenant_of_key(connection, key_id)
    except asyncpg.InsufficientPrivilegeError as error:
        raise ValueError("This database login sees one tenant at a time: name it with --tenant.") from error


def create_corpus(home: Path | None, tenant: str, corpus_id: str, name: str, visibility: str, *, as_json: bool) -> None:
    """Make a corpus unless it exists."""
    if not is_client_id(corpus_id):
        raise SettingsError([f"--id: letters, digits, '.', '_' and '-', at most 128, starting with a letter or digit (got {corpus_id!r})"])
    if visibility not in ("restricted", "tenant"):
        raise SettingsError([f"--visibility: must be restricted or tenant (got {visibility!r})"])

    async def act(connection: "asyncpg.Connection[Any]", _: Settings) -> dict[str, Any]:
        return await ensure_corpus(connection, tenant, corpus_id, name, visibility)

    made = act_on(home, act)
    show(made, as_json, f"corpus {made['id']} of tenant {made['tenant_id']} ({'made' if made['created'] else 'was there'})")


def act_on(home: Path | None, act: Callable[["asyncpg.Connection[Any]", Settings], Awaitable[T]]) -> T:
    async def main(settings: Settings) -> T:
        connection = await asyncpg.connect(**connect_arguments(_url(settings)), timeout=10)
        try:
            return await act(connection, settings)
        finally:
            await connection.close()

    try:
        with attach(load(home)) as environment:
            return asyncio.run(main(environment.settings))
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    except asyncpg.UndefinedTableError as error:
        raise SettingsError(["The database has no tables yet; run `nexusrag migrate` first."]) from error
    except (asyncpg.PostgresError, OSError) as error:
        raise SettingsError([f"The database refused: {type(error).__name__}: {error}"]) from error


def _url(settings: Settings) -> str:
    stores = settings.stores
    return stores.database_migration_url.get_secret_value() or stores.database_url.get_secret_value()


def show(value: Any, as_json: bool, text: str) -> None:
    sys.stdout.write((json.dumps(value, default=str) if as_json else text) + "\n")
