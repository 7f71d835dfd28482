"""The layers hold, and the tool that says so finds what is planted in a copy of the project."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

pytestmark = pytest.mark.slow


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [LINT, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "nexusrag", tmp_path / "nexusrag", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_project_keeps_its_layers() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("contract", "files"),
    [
        ("Imports run down only", {"kernel/planted.py": "import nexusrag.settings"}),
        ("Imports run down only", {"console/planted.py": "from nexusrag import domains"}),
        ("Imports run down only", {"security/planted.py": "def f():\n    from nexusrag.access import roles"}),
        ("Imports run down only", {"infra/planted.py": "import nexusrag.embedded"}),
        ("Imports run down only", {"surprise/__init__.py": ""}),
        ("Embedded servers are started from the command line alone", {"web/planted.py": "import nexusrag.embedded"}),
        (
            "Domains of a wing form no circle",
            {
                "identity/left/__init__.py": "",
                "identity/left/facade.py": "import nexusrag.identity.right.facade",
                "identity/right/__init__.py": "",
                "identity/right/facade.py": "import nexusrag.identity.left.facade",
            },
        ),
    ],
)
def test_a_planted_import_breaks_its_contract(copy: Path, contract: str, files: dict[str, str]) -> None:
    for place, code in files.items():
        path = copy / "nexusrag" / place
        path.parent.mkdir(exist_ok=True)
        path.write_text(code + "\n")
    result = lint(copy)
    assert result.returncode == 1
    assert f"{contract} BROKEN" in result.stdout
