""".env.example says what the settings say, and can be used as it stands."""

from pathlib import Path

import pytest
from dotenv import dotenv_values

from nexusrag.settings import load
from nexusrag.settings.load import groups
from scripts.render_env_example import TARGET, render


def test_the_example_is_what_the_settings_give() -> None:
    assert TARGET.read_text() == render(), "run `make env-example`"


def test_every_line_with_its_mark_taken_off_gives_the_defaults(tmp_path: Path) -> None:
    lines = [line.removeprefix("#") if line.startswith("#") and line[1:2].isupper() else line for line in render().splitlines()]
    (tmp_path / ".env").write_text("\n".join(lines))
    env = {name: value or "" for name, value in dotenv_values(tmp_path / ".env").items()}
    assert set(env) == {"NEXUSRAG_HOME", "POSTGRES_PASSWORD", "POSTGRES_LOGIN_PASSWORD"} | {
        field.upper() for group in groups().values() for field in group.model_fields
    }
    assert load(None, env) == load(None, {})


def test_a_process_reads_the_file_where_it_is_started_and_its_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("API_PORT=8123\nLOG_LEVEL=DEBUG\nNEXUSRAG_HOME=elsewhere\n")
    monkeypatch.chdir(tmp_path)
    for name in ("API_PORT", "NEXUSRAG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    settings = load()
    assert (settings.web.api_port, settings.runtime.log_level, settings.home) == (8123, "ERROR", tmp_path / "elsewhere")
