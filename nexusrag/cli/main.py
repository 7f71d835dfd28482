"""The `nexusrag` command. Each command imports what it needs when it runs, so that small ones stay quick."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nexusrag.embedded.home import EmbeddedError
from nexusrag.settings import SettingsError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="NexusRAG: answers from your documents.")
keys = typer.Typer(no_args_is_help=True, help="API keys.")
corpora = typer.Typer(no_args_is_help=True, help="Corpora.")
users = typer.Typer(no_args_is_help=True, help="Users of a tenant.")
tenants = typer.Typer(no_args_is_help=True, help="Tenants.")
plans = typer.Typer(no_args_is_help=True, help="Plans, and what they contain.")
app.add_typer(keys, name="keys")
app.add_typer(corpora, name="corpora")
app.add_typer(users, name="users")
app.add_typer(tenants, name="tenants")
app.add_typer(plans, name="plans")

Home = Annotated[Path | None, typer.Option("--home", help="Directory of the installation.  [default: ./var]", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Url = Annotated[
    str | None,
    typer.Option("--url", envvar="NEXUSRAG_URL", help="Address of the API.  [default: where `up` serves this home]", show_default=False),
]
Key = Annotated[
    str | None, typer.Option("--key", envvar="NEXUSRAG_API_KEY", help="API key.  [default: the one that `up` made]", show_default=False)
]
Corpus = Annotated[str, typer.Option("--corpus", help="Corpus to use.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Tenant.")]


@app.command()
def up(
    home: Home = None,
    port: Annotated[int | None, typer.Option(help="Port of the API.  [default: API_PORT, 8000]", show_default=False)] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Leave out the demo corpus and its question.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop after the demo's answer.")] = False,
) -> None:
    """Start everything on this machine: PostgreSQL, Redis, API, workers. For one machine; see docs/guides for more."""
    from nexusrag.cli import up as command

    raise typer.Exit(command.run(home, port=port, workers=workers, demo=not no_demo, once=once))


@app.command()
def api(home: Home = None) -> None:
    """Serve the HTTP API (API_HOST, API_PORT)."""
    from nexusrag.cli import serve

    raise typer.Exit(serve.api(home))


@app.command()
def worker(home: Home = None) -> None:
    """Run background jobs."""
    from nexusrag.cli import serve

    raise typer.Exit(serve.worker(home))


@app.command()
def migrate(home: Home = None) -> None:
    """Bring the database to the schema of this release (DATABASE_MIGRATION_URL, else DATABASE_URL)."""
    from nexusrag.cli import admin

    admin.migrate(home)


@app.command()
def doctor(home: Home = None) -> None:
    """Say what is wrong with this installation, one line each."""
    from nexusrag.cli import doctor as command

    raise typer.Exit(command.run(home))


@keys.command("create")
def keys_create(
    tenant: Annotated[str, typer.Option(help="Tenant; made when it is new.")],
    role: Annotated[str, typer.Option(help="reader, editor or admin.")],
    name: Annotated[str, typer.Option(help="What the key is for.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a user with a key. The key is shown this once."""
    from nexusrag.cli import admin

    admin.create_key(home, tenant, role, name, as_json=as_json)


@keys.command("list")
def keys_list(
    tenant: Annotated[str | None, typer.Option(help="Its keys alone; needed where DATABASE_MIGRATION_URL is not set.")] = None,
    home: Home = None,
    inactive_only: Annotated[bool, typer.Option("--inactive-only", help="Only keys not used for AUTH_API_KEY_INACTIVE_DAYS.")] = False,
    as_json: Json = False,
) -> None:
    """List keys, without secrets."""
    from nexusrag.cli import admin

    admin.list_keys(home, tenant, inactive_only=inactive_only, as_json=as_json)


@keys.command("revoke")
def keys_revoke(
    key_id: str,
    tenant: Annotated[str | None, typer.Option(help="Its tenant; needed where DATABASE_MIGRATION_URL is not set.")] = None,
    home: Home = None,
) -> None:
    """Revoke a key. It stops working everywhere within a second."""
    from nexusrag.cli import admin

    raise typer.Exit(admin.revoke_key(home, key_id, tenant))


@keys.command("rotate")
def keys_rotate(
    key_id: str,
    tenant: Annotated[str | None, typer.Option(help="Its tenant; needed where DATABASE_MIGRATION_URL is not set.")] = None,
    grace_hours: Annotated[int, typer.Option(min=0, max=720, help="Hours for which the old key works on.")] = 0,
    keep_old_active: Annotated[bool, typer.Option("--keep-old-active", help="Leave the old key as it is, to be revoked later.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a new key in place of one, with its user and role. The new key is shown this once."""
    from nexusrag.cli import admin

    raise typer.Exit(admin.rotate_key(home, key_id, tenant, None if keep_old_active else grace_hours, as_json=as_json))


@users.command("list")
def users_list(tenant: Tenant, home: Home = None, as_json: Json = False) -> None:
    """List a tenant's users."""
    from nexusrag.cli import people

    people.list_users(home, tenant, as_json=as_json)


@users.command("role")
def users_role(
    user_id: str,
    role: Annotated[str, typer.Argument(help="reader, editor, admin or one of the tenant's own.")],
    tenant: Tenant,
    home: Home = None,
) -> None:
    """Give a user another role, without a second admin. It acts everywhere within a second."""
    from nexusrag.cli import people

    raise typer.Exit(people.set_role(home, tenant, user_id, role))


@users.command("enable")
def users_enable(user_id: str, tenant: Tenant, home: Home = None) -> None:
    """Enable a user."""
    from nexusrag.cli import people

    raise typer.Exit(people.set_active(home, tenant, user_id, active=True))


@users.command("disable")
def users_disable(user_id: str, tenant: Tenant, home: Home = None) -> None:
    """Disable a user, the last admin included. Their credentials are refused everywhere within a second."""
    from nexusrag.cli import people

    raise typer.Exit(people.set_active(home, tenant, user_id, active=False))


@tenants.command("list")
def tenants_list(home: Home = None, as_json: Json = False) -> None:
    """List all tenants."""
    from nexusrag.cli import people

    people.list_tenants(home, as_json=as_json)


@tenants.command("create")
def tenants_create(
    tenant: str, name: Annotated[str, typer.Option(help="Name.  [default: the id]", show_default=False)] = "", home: Home = None
) -> None:
    """Make a tenant; one that exists is left as it is. The first one made is the home tenant."""
    from nexusrag.cli import people

    people.create_tenant(home, tenant, name or tenant)


@tenants.command("suspend")
def tenants_suspend(tenant: str, home: Home = None) -> None:
    """Refuse all of a tenant's credentials, everywhere within a second."""
    from nexusrag.cli import people

    people.set_status(home, tenant, active=False)


@tenants.command("activate")
def tenants_activate(tenant: str, home: Home = None) -> None:
    """Take a suspended tenant back."""
    from nexusrag.cli import people

    people.set_status(home, tenant, active=True)


@corpora.command("create")
def corpora_create(
    tenant: Annotated[str, typer.Option(help="Tenant.")],
    corpus_id: Annotated[str, typer.Option("--id", help="Id of the corpus.")],
    name: Annotated[str, typer.Option(help="Name.  [default: the id]", show_default=False)] = "",
    visibility: Annotated[str, typer.Option(help="restricted: documents' permissions decide; tenant: every member reads.")] = "restricted",
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a corpus; one that exists is left as it is."""
    from nexusrag.cli import admin

    admin.create_corpus(home, tenant, corpus_id, name or corpus_id, visibility, as_json=as_json)


@plans.command("list")
def plans_list(
    tenant: Annotated[str | None, typer.Option(help="What this tenant has.  [default: every plan]", show_default=False)] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show what each plan contains, or what one tenant has."""
    from nexusrag.cli import plans as command

    command.list_plans(home, tenant, as_json=as_json)


@plans.command("set")
def plans_set(tenant: str, plan: Annotated[str, typer.Argument(help="free, pro or enterprise.")], home: Home = None) -> None:
    """Assign a plan to a tenant. It acts everywhere within a second."""
    from nexusrag.cli import plans as command

    command.set_plan(home, tenant, plan)


@plans.command("feature")
def plans_feature(
    tenant: str,
    key: Annotated[str, typer.Argument(help="Such as feature.tts.")],
    state: Annotated[str, typer.Argument(help="on or off for this tenant alone; default: as its plan has it.")],
    home: Home = None,
) -> None:
    """Switch one feature for one tenant, whatever its plan. It acts everywhere within a second."""
    from nexusrag.cli import plans as command

    command.switch_feature(home, tenant, key, state)


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files and folders.")],
    corpus: Corpus,
    home: Home = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Put files into a corpus and wait until each is searchable, or say why not. Ingesting a file again replaces it."""
    from nexusrag.cli import ingest as command

    raise typer.Exit(command.run(home, paths, corpus, url, key))


@app.command()
def ask(question: str, corpus: Corpus, home: Home = None, url: Url = None, key: Key = None) -> None:
    """Ask a question of a corpus; prints the answer as it comes, then the citations."""
    from nexusrag.cli import ask as command

    raise typer.Exit(command.run(home, question, corpus, url, key))


@app.command()
def smoke(
    tenant: Annotated[str, typer.Option(help="Tenant.")],
    corpus: Corpus,
    query: Annotated[str, typer.Option(help="What to search for.")],
    top_k: Annotated[int, typer.Option(min=1, max=50, help="Passages.")] = 5,
    home: Home = None,
) -> None:
    """Try a corpus's retrieval from this machine, without the API and without a model."""
    from nexusrag.cli import smoke as command

    raise typer.Exit(command.run(home, tenant, corpus, query, top_k))


@app.command()
def seed(home: Home = None, url: Url = None, key: Key = None) -> None:
    """Make the demo corpus c1 with its documents, through the running API; nothing to do when it is there."""
    from nexusrag.cli import demo

    raise typer.Exit(demo.seed(home, url, key))


def main() -> None:
    """The entry point. Faults of settings and servers are told in plain lines, without a trace."""
    try:
        app()
    except SettingsError as error:
        for line in error.lines:
            sys.stderr.write(line + "\n")
        sys.exit(2)
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
