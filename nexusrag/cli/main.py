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
app.add_typer(keys, name="keys")
app.add_typer(corpora, name="corpora")

Home = Annotated[Path | None, typer.Option("--home", help="Directory of the installation.  [default: ./var]", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Url = Annotated[str, typer.Option("--url", envvar="NEXUSRAG_URL", help="Address of the API.")]
Key = Annotated[
    str | None, typer.Option("--key", envvar="NEXUSRAG_API_KEY", help="API key.  [default: the one that `up` made]", show_default=False)
]
Corpus = Annotated[str, typer.Option("--corpus", help="Corpus to use.")]
_URL = "http://127.0.0.1:8000"


@app.command()
def up(
    home: Home = None,
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8000,
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
    tenant: Annotated[str, typer.Option(help="Tenant.")],
    home: Home = None,
    inactive_only: Annotated[bool, typer.Option("--inactive-only", help="Only keys not used for 90 days.")] = False,
    as_json: Json = False,
) -> None:
    """List a tenant's keys, without secrets."""
    from nexusrag.cli import admin

    admin.list_keys(home, tenant, inactive_only=inactive_only, as_json=as_json)


@keys.command("revoke")
def keys_revoke(key_id: str, home: Home = None) -> None:
    """Revoke a key. It stops working everywhere within a second."""
    from nexusrag.cli import admin

    raise typer.Exit(admin.revoke_key(home, key_id))


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


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files and folders.")],
    corpus: Corpus,
    home: Home = None,
    url: Url = _URL,
    key: Key = None,
) -> None:
    """Put files into a corpus and wait until each is searchable, or say why not. Ingesting a file again replaces it."""
    from nexusrag.cli import ingest as command

    raise typer.Exit(command.run(home, paths, corpus, url, key))


@app.command()
def ask(question: str, corpus: Corpus, home: Home = None, url: Url = _URL, key: Key = None) -> None:
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
def seed(home: Home = None, url: Url = _URL, key: Key = None) -> None:
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
