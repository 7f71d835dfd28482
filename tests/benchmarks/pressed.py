"""The API that takes nobody: every caller that may be refused for overload is, after its first request. For measuring what that costs."""

from nexusrag.app import create_app
from nexusrag.infra import logs
from nexusrag.operations.sla.overload import Overload
from nexusrag.settings import load
from nexusrag.web import server


def main() -> int:
    """Serve until a signal."""
    logs.configure("ERROR")
    Overload.share = lambda self, rank: 0.0  # type: ignore[method-assign]
    settings = load()
    return server.run(create_app(settings), settings)


if __name__ == "__main__":
    raise SystemExit(main())
