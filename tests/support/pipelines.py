"""A served application with one stage of its pipeline left out, or one more."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from fastapi import FastAPI

from nexusrag.web.route import GatedRoute
from nexusrag.web.stage import Pipeline, Stage


@contextmanager
def without_stage(app: FastAPI, name: str) -> Iterator[None]:
    """No route passes the stage of this name."""
    whole: Pipeline = app.state.pipeline
    kept = replace(whole, before=_others(whole.before, name), within=_others(whole.within, name))
    if len(kept.before) + len(kept.within) != len(whole.before) + len(whole.within) - 1:
        raise ValueError(f"there is no stage {name!r}")
    _pass(app, kept)
    try:
        yield
    finally:
        _pass(app, whole)


@contextmanager
def with_stage(app: FastAPI, stage: Stage) -> Iterator[None]:
    """Every route that needs it passes this stage last."""
    whole: Pipeline = app.state.pipeline
    _pass(app, replace(whole, within=(*whole.within, stage)))
    try:
        yield
    finally:
        _pass(app, whole)


def _others(stages: tuple[Stage, ...], name: str) -> tuple[Stage, ...]:
    return tuple(stage for stage in stages if stage.name != name)


def _pass(app: FastAPI, pipeline: Pipeline) -> None:
    app.state.pipeline = pipeline
    for route in app.router.routes:
        if isinstance(route, GatedRoute):
            route._stages = None  # found once, and kept
