"""The embedded Redis: started once, found again, unharmed by whatever is killed."""

import os
import signal
from pathlib import Path

import pytest
import redis
from arq.connections import RedisSettings

from nexusrag.embedded.redis import EmbeddedRedis
from tests.embedded.conftest import until

pytestmark = pytest.mark.slow


def pid_of(server: EmbeddedRedis) -> int:
    return int((server.data / "redis.pid").read_text())


def client(server: EmbeddedRedis) -> redis.Redis:
    return redis.Redis.from_url(server.url(), decode_responses=True)


def test_a_second_start_adopts_the_server_and_a_restart_keeps_the_data(home: Path, redis_server: EmbeddedRedis) -> None:
    assert redis_server.start()
    with client(redis_server) as connection:
        connection.set("kept", "1")
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert connection.config_get("appendfsync") == {"appendfsync": "everysec"}
    assert not EmbeddedRedis(home).start()
    redis_server.stop()
    assert not redis_server.running()
    assert redis_server.start()
    with client(redis_server) as connection:
        assert connection.get("kept") == "1"


def test_a_killed_server_starts_again_with_its_data_beside_a_stale_pid_and_socket(redis_server: EmbeddedRedis) -> None:
    redis_server.start()
    with client(redis_server) as connection:
        connection.set("kept", "1")
    os.kill(pid_of(redis_server), signal.SIGKILL)
    until(lambda: not redis_server.running())
    (redis_server.data / "redis.pid").write_text(f"{os.getpid()}\n")
    assert not redis_server.running()
    assert redis_server.start()
    with client(redis_server) as connection:
        assert connection.get("kept") == "1"


def test_the_password_is_needed_and_stands_in_no_command_line(redis_server: EmbeddedRedis) -> None:
    redis_server.start()
    settings = RedisSettings.from_dsn(redis_server.url())
    assert settings.unix_socket_path is not None and settings.password is not None
    with redis.Redis(unix_socket_path=settings.unix_socket_path) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert settings.password not in Path(f"/proc/{pid_of(redis_server)}/cmdline").read_text()


def test_a_damaged_append_only_file_is_set_aside(home: Path, redis_server: EmbeddedRedis) -> None:
    redis_server.start()
    with client(redis_server) as connection:
        connection.set("lost", "1")
    redis_server.stop()
    path = redis_server.data / "appendonly.aof"
    path.write_bytes(b"*2\r\n$6\r\nSELECT\r\nbroken\r\n" + path.read_bytes())
    assert redis_server.start()
    with client(redis_server) as connection:
        assert connection.dbsize() == 0
    assert len(list((home / "data").glob("redis.damaged-*/appendonly.aof"))) == 1


def test_a_server_whose_socket_was_deleted_is_started_anew(redis_server: EmbeddedRedis) -> None:
    redis_server.start()
    before = pid_of(redis_server)
    redis_server._socket().unlink()
    assert redis_server.start()
    assert pid_of(redis_server) != before
