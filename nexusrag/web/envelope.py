"""What an answer looks like: the v1 envelope, the bare legacy body, and errors in both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson
from fastapi import Response
from pydantic import BaseModel

from nexusrag.kernel.errors import ApiError, ErrorCode

T = TypeVar("T")
API_VERSION = "v1"


class Page(BaseModel):
    """Where a listing goes on."""

    next_cursor: str | None = None
    has_more: bool = False


class Meta(BaseModel):
    request_id: str
    api_version: str = API_VERSION
    page: Page | None = None


class Envelope(BaseModel, Generic[T]):
    """Every successful answer under /v1."""

    data: T
    meta: Meta


class ErrorBody(BaseModel):
    code: ErrorCode
    message: str
    details: dict[str, Any] | None = None


class ErrorEnvelope(BaseModel):
    """Every failed answer under /v1."""

    error: ErrorBody
    meta: Meta


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """A page of a listing: the items are `data`, the page stands in `meta`."""

    items: list[T]
    page: Page
    rows: list[dict[str, Any]] | None = None

    @classmethod
    def of_rows(cls, rows: list[dict[str, Any]], page: Page) -> "Listed[T]":
        """Items that are plain values in the shape of T already, for long listings: no object is made of each."""
        return cls([], page, rows)


class Data(Response):
    """What a handler returned, as JSON; the route class puts the envelope around it."""

    def __init__(self, payload: bytes, status: int, page: Page | None = None) -> None:
        super().__init__(status_code=status)
        self.payload = payload
        self.page = page


def enveloped(payload: bytes, request_id: str, page: Page | None = None) -> bytes:
    meta: dict[str, Any] = {"request_id": request_id, "api_version": API_VERSION}
    if page is not None:
        meta["page"] = page.model_dump()
    return b'{"data":' + payload + b',"meta":' + orjson.dumps(meta) + b"}"


def error_response(error: ApiError, request_id: str, *, legacy: bool = False, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a refused or failed request."""
    body: dict[str, Any] = {"code": error.code.value, "message": error.message}
    if legacy:
        content = {"detail": {**body, **(error.details or {})}}
    else:
        if error.details is not None:
            body["details"] = error.details
        content = {"error": body, "meta": {"request_id": request_id, "api_version": API_VERSION}}
    answer = Response(orjson.dumps(content, default=str), status_code=error.status, media_type="application/json")
    answer.headers.update({**(headers or {}), **error.headers, "X-Request-Id": request_id})
    if error.status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


@dataclass(frozen=True, slots=True)
class Errors:
    """What refusals look like below one router's prefix, unknown paths included, where a standard has its own form for them."""

    model: type[BaseModel] = ErrorEnvelope
    media_type: str = "application/json"
    answer: Callable[[ApiError, str], Response] = error_response


ENVELOPED = Errors()


def errors_below(known: Mapping[str, Errors], path: str) -> Errors:
    """The form of refusals where no route was matched: that of the router below whose prefix the path stands, by `known`."""
    return next((errors for prefix, errors in known.items() if path == prefix or path.startswith(f"{prefix}/")), ENVELOPED)
