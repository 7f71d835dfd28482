"""The API as it is, without some stages of its pipeline: `python -m tests.benchmarks.stripped "rate limit" quota`. For comparison alone."""

import sys
from dataclasses import replace

from nexusrag.app import create_app
from nexusrag.infra import logs
from nexusrag.pipeline import PIPELINE
from nexusrag.settings import load
from nexusrag.web import server


def main(without: set[str]) -> int:
    """Serve until a signal."""
    known = {stage.name for stage in (*PIPELINE.before, *PIPELINE.within)}
    if not without <= known:
        raise SystemExit(f"There is no stage {sorted(without - known)}.")
    logs.configure("ERROR")
    settings = load()
    app = create_app(settings)
    app.state.pipeline = replace(
        PIPELINE,
        before=tuple(stage for stage in PIPELINE.before if stage.name not in without),
        within=tuple(stage for stage in PIPELINE.within if stage.name not in without),
    )
    return server.run(app, settings)


if __name__ == "__main__":
    raise SystemExit(main(set(sys.argv[1:])))
