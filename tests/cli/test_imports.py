"""What commands load before they do anything: `keys create` has half a second."""

import subprocess
import sys

_HEAVY = (
    "alembic", "aiohttp", "arq", "boto3", "fastapi", "google", "httpx", "langgraph", "numpy", "onnxruntime", "redis", "sqlalchemy",
)  # fmt: skip


def test_commands_on_the_driver_load_nothing_heavy() -> None:
    code = "import sys, nexusrag.cli.main, nexusrag.cli.admin; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "asyncpg" in loaded
    assert sorted(set(loaded) & set(_HEAVY)) == []
