"""JSON logs. Secrets, prompts and document text never reach them: suspicious keys are redacted, and traces carry no values."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from nexusrag.kernel import clock

_SECRET = (
    "api_key",
    "authorization",
    "token",
    "secret",
    "password",
    "text",
    "content",
    "message",
    "question",
    "prompt",
    "cookie",
)
REDACTED = "[REDACTED]"


def redact(value: Any, key: str = "") -> Any:
    """`value` with everything under a suspicious key replaced, at any depth."""
    if key and any(word in key.lower().replace("-", "_") for word in _SECRET) and not isinstance(value, int | float | bool | None):
        return REDACTED
    if isinstance(value, dict):
        return {name: redact(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact(inner) for inner in value]
    return value


def configure(level: str) -> None:
    """Set up structlog and route the standard library's loggers (warnings and worse) through it."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exception,
            _redact_event,
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(logging.WARNING, getattr(logging, level)))
    # It warns of each request that it cannot read: whoever sends those must not fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Frames and types of an exception; its message may hold a statement's parameters and stays out."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)[-12:]
        event["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        if error.__cause__ is not None:
            event["cause"] = type(error.__cause__).__name__
    return event


def _redact_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: value if name in ("event", "level", "timestamp") else redact(value, name) for name, value in event.items()}


class _Bridge(logging.Handler):
    """Other libraries' warnings: where from and what kind, but not their arguments."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        line = {
            "event": "library.log",
            "level": record.levelname.lower(),
            "timestamp": clock.iso(clock.now()),
            "logger": record.name,
            "template": str(record.msg)[:200],
        }
        if error is not None:
            line["error"] = type(error).__name__
        sys.stderr.write(orjson.dumps(line).decode() + "\n")
