"""Paths, sockets, locks and secrets of an installation."""

import base64
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nexusrag.embedded.home import EmbeddedError, Home, is_locked, try_lock
from nexusrag.embedded.secrets import ensure_secrets
from tests.embedded.conftest import child_environment

HOLD = """
import fcntl, sys, pathlib, time
from nexusrag.embedded.home import try_lock
try_lock(pathlib.Path(sys.argv[1]), fcntl.LOCK_EX)
print(1, flush=True)
time.sleep(60)
"""
SECRETS = """
import sys, json, pathlib
from nexusrag.embedded.secrets import ensure_secrets
print(json.dumps(ensure_secrets(pathlib.Path(sys.argv[1]))))
"""


def test_a_home_and_its_directories_are_the_owners_alone_under_any_umask(home: Path) -> None:
    old = os.umask(0)
    try:
        Home(home).create()
    finally:
        os.umask(old)
    assert {path.name: path.stat().st_mode & 0o777 for path in (home, *home.iterdir())} == dict.fromkeys(
        ("home", "data", "run", "logs", "secrets"), 0o700
    )


def test_a_directory_that_holds_other_things_keeps_its_mode(home: Path) -> None:
    home.mkdir(mode=0o755)
    (home / "thesis.txt").write_text("mine")
    Home(home).create()
    assert home.stat().st_mode & 0o777 == 0o755
    assert (home / "secrets").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory away")
def test_the_home_of_another_user_is_refused_and_left_alone(home: Path) -> None:
    home.mkdir()
    os.chown(home, 12345, 12345)
    with pytest.raises(EmbeddedError, match="belongs to user 12345"):
        Home(home).create()
    assert list(home.iterdir()) == []


def test_a_file_in_place_of_the_home_is_reported(home: Path) -> None:
    home.write_text("")
    with pytest.raises(EmbeddedError, match="Choose another --home"):
        Home(home).create()


@pytest.mark.parametrize("name", ["x" * 120, "with space & ümlaut?"])
def test_sockets_fit_into_an_address_and_a_url_whatever_the_home_is_called(tmp_path: Path, name: str) -> None:
    place = Home(tmp_path / name)
    place.create()
    directory = place.socket_directory("postgres", os.geteuid(), os.getegid())
    try:
        assert len(os.fsencode(directory / ".s.PGSQL.32767")) <= 103
        assert directory.stat().st_mode & 0o777 == 0o700
        assert str(directory).isascii() and " " not in str(directory)
        assert directory == place.socket_directory("postgres", os.geteuid(), os.getegid())
    finally:
        place.drop_socket_directory(directory)
    assert not directory.parent.exists()


def test_a_socket_directory_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    place = Home(tmp_path / ("x" * 120))
    place.create()
    directory = place.socket_directory("postgres", os.geteuid(), os.getegid())
    place.drop_socket_directory(directory)
    directory.parent.symlink_to(tmp_path)
    try:
        with pytest.raises(EmbeddedError, match="not a directory of our own"):
            place.socket_directory("postgres", os.geteuid(), os.getegid())
    finally:
        directory.parent.unlink()


def test_a_lock_is_free_once_its_holder_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, env=child_environment()) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_locked(path) and try_lock(path, fcntl.LOCK_EX) is None
        holder.kill()
    descriptor = try_lock(path, fcntl.LOCK_EX)
    assert descriptor is not None
    os.close(descriptor)


def test_secrets_are_made_once_and_only_their_owner_reads_them(home: Path) -> None:
    first = ensure_secrets(home)
    assert set(first) >= {"UI_CURSOR_SECRET", "AUTH_KEY_PEPPER", "CRYPTO_LOCAL_MASTER_KEY"}
    assert len(base64.b64decode(first["CRYPTO_LOCAL_MASTER_KEY"], validate=True)) == 32
    assert len(set(first.values())) == len(first)
    assert ensure_secrets(home) == first
    assert [path.stat().st_mode & 0o777 for path in (home / "secrets").iterdir()] == [0o600, 0o600]


def test_a_secret_that_a_later_version_needs_is_added_and_the_others_stay(home: Path) -> None:
    first = ensure_secrets(home, ("REDIS_PASSWORD",))
    assert ensure_secrets(home)["REDIS_PASSWORD"] == first["REDIS_PASSWORD"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"AUTH_KEY_PEPPER": 1}', '{"AUTH_KEY_PEPPER": ""}'])
def test_a_damaged_file_of_secrets_is_reported_and_never_replaced(home: Path, text: str) -> None:
    ensure_secrets(home)
    path = home / "secrets" / "secrets.json"
    path.write_text(text)
    with pytest.raises(EmbeddedError, match="damaged: restore it from a backup"):
        ensure_secrets(home)
    assert path.read_text() == text


def test_lost_secrets_are_not_replaced_while_there_are_data(home: Path) -> None:
    ensure_secrets(home)
    (home / "data" / "postgres").mkdir()
    (home / "secrets" / "secrets.json").unlink()
    with pytest.raises(EmbeddedError, match="restore it from a backup"):
        ensure_secrets(home)
    assert not (home / "secrets" / "secrets.json").exists()


@pytest.mark.slow
def test_four_processes_at_once_agree_on_the_secrets(home: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", SECRETS, str(home)], stdout=subprocess.PIPE, env=child_environment(), text=True)
        for _ in range(4)
    ]
    answers = [json.loads(process.communicate()[0]) for process in processes]
    assert all(answer == answers[0] == ensure_secrets(home) for answer in answers)
