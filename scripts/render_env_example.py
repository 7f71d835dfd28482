"""Writes .env.example from the settings, so that the file names every variable with its meaning and its default."""

import json
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from nexusrag.settings.group import Group
from nexusrag.settings.load import groups

TARGET = Path(__file__).parents[1] / ".env.example"
HEAD = """\
# Every setting, with its default. Made from nexusrag/settings by `make env-example`.
# Copy it to `.env` and take the `#` off what you change. The process environment wins over `.env`; empty means not set.

# Directory of the installation: data, sockets and secrets. `--home` wins over it.
#NEXUSRAG_HOME=var
"""
TAIL = """

# --- For docker-compose.yml alone ---

# passwords of the database's superuser and of the login that the application uses; letters and digits only.
#POSTGRES_PASSWORD=
#POSTGRES_LOGIN_PASSWORD=
"""


def render() -> str:
    """The whole file."""
    return HEAD + "".join(_section(group) for group in groups().values()) + TAIL


def _section(group: type[Group]) -> str:
    title = (sys.modules[group.__module__].__doc__ or group.__name__).strip().splitlines()[0].rstrip(".")
    lines = ["", "", f"# --- {title} ---"]
    for name, field in group.model_fields.items():
        lines += ["", f"# {_meaning(field)}", f"#{name.upper()}={_default(field)}"]
    return "\n".join(lines) + "\n"


def _meaning(field: FieldInfo) -> str:
    meaning = f"{(field.description or '').strip()}."
    if get_origin(field.annotation) is Literal:
        meaning += f" One of: {', '.join(map(str, get_args(field.annotation)))}."
    return meaning


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def main() -> None:
    TARGET.write_text(render())


if __name__ == "__main__":
    main()
