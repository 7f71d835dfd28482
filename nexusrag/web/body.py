"""The one gate for bodies: size, encoding, depth, duplicate keys, NUL, lone surrogates, NaN and huge integers, before anything parses."""

import asyncio
import hashlib
import json
import sys
from typing import Any, NoReturn

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from nexusrag.kernel.errors import ApiError, ErrorCode

MAX_DEPTH = 32
MAX_NODES = 100_000
_MAX_INT = 2**63 - 1
_FORM_OVERHEAD = 64 * 1024
_STALL_S = 10.0
_LAST_LOOK_S = 0.1


class _Refused(ValueError):
    """Not acceptable JSON; the message says what is wrong with it."""


async def read_limited(request: Request, limit: int) -> bytes:
    """The body, or PAYLOAD_TOO_LARGE as soon as more than `limit` bytes were announced or seen."""
    _bound(request, limit)
    try:
        return b"".join([piece async for piece in request.stream()])
    except ClientDisconnect as error:
        raise _cut_off() from error


def parse_json(raw: bytes) -> Any:
    """Strict JSON. Raises ApiError(VALIDATION_ERROR) that says what is wrong, without echoing the body."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite,
        )
        _walk(value)
    except UnicodeDecodeError as error:
        raise _invalid("The body is not UTF-8.") from error
    except RecursionError as error:
        raise _invalid(f"The body is nested deeper than {MAX_DEPTH} levels.") from error
    except json.JSONDecodeError as error:
        raise _invalid(f"The body is not JSON: {error.msg} at character {error.pos}.") from error
    except _Refused as error:
        raise _invalid(str(error)) from error
    return value


async def read_json(request: Request, limit: int) -> tuple[Any, bytes]:
    """The parsed body (None when empty) and its fingerprint, whatever the order of keys and the spacing."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    _refuse_encoding(request)
    raw = await read_limited(request, limit)
    if raw and media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body as application/json.")
    value = parse_json(raw) if raw else None
    # FastAPI finds both where Starlette would have put them, so nothing is read or parsed again.
    request._body = raw
    request._json = value
    return value, fingerprint_of(value)


def fingerprint_of(value: Any) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).digest()


async def read_form(request: Request, limit: int) -> tuple[dict[str, Any], bytes]:
    """Text fields and files of a multipart form, files spooled to disk; the fingerprint holds each file's digest, not its bytes."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the file as multipart/form-data.")
    _refuse_encoding(request)
    _bound(request, limit + _FORM_OVERHEAD)
    try:
        # Not request.form(): inside an application that answers a faulty form with an exception of the framework's own.
        parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=20, max_part_size=64 * 1024)
        form = await parser.parse()
    except MultiPartException as error:
        raise ApiError(ErrorCode.BAD_REQUEST, f"The form cannot be read: {error.message}") from error
    except UnicodeError as error:  # from a `charset` that is none
        raise ApiError(ErrorCode.BAD_REQUEST, "The form cannot be read: leave `charset` out, or send utf-8.") from error
    except ClientDisconnect as error:
        raise _cut_off() from error
    except OSError as error:
        message = "The disk for incoming files is full or cannot be written. Free some space and try again."
        raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, message) from error
    request._form = form  # FastAPI finds it where Starlette would have put it
    return await asyncio.to_thread(_fields, form, limit)  # digests of large files take a while


def _fields(form: FormData, limit: int) -> tuple[dict[str, Any], bytes]:
    fields: dict[str, Any] = {}
    parts: list[Any] = []
    for name, value in form.multi_items():
        _check_text(name)
        if name in fields:
            raise _invalid(f"The field {name!r} is given twice.")
        if isinstance(value, UploadFile):
            if (value.size or 0) > limit:
                raise _too_large(limit)
            value.file.seek(0)
            digest = hashlib.file_digest(value.file, "sha256").hexdigest()  # type: ignore[arg-type]
            value.file.seek(0)
            _check_text(value.filename or "")
            parts.append([name, value.filename, value.content_type, digest])
        else:
            _check_text(value)
            parts.append([name, value])
        fields[name] = value
    return fields, fingerprint_of(sorted(parts, key=str))


def _refuse_encoding(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body without Content-Encoding.")


def _check_text(value: str) -> None:
    try:
        _check_string(value)
    except _Refused as error:
        raise _invalid(str(error)) from error


def _bound(request: Request, limit: int) -> None:
    """Refuse a body as soon as more than `limit` bytes of it were announced or seen, or nothing of it comes for `_STALL_S` seconds."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:19]) > limit:
        raise _too_large(limit)
    receive = request._receive
    seen = 0

    async def bounded() -> Any:
        nonlocal seen
        try:
            async with asyncio.timeout(_STALL_S):
                message = await receive()
        except TimeoutError:
            # It may be this process that stood still: what has come meanwhile is read in the next turns of its loop.
            try:
                async with asyncio.timeout(_LAST_LOOK_S):
                    message = await receive()
            except TimeoutError as error:
                raise _cut_off() from error
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
        return message

    request._receive = bounded


def _cut_off() -> ApiError:
    # Connection: close, because the rest may come after all, and is no request.
    return ApiError(ErrorCode.BAD_REQUEST, "The body ended before it was complete.", headers={"Connection": "close"})


def _too_large(limit: int) -> ApiError:
    # Connection: close, because the rest of the body is never read.
    return ApiError(
        ErrorCode.PAYLOAD_TOO_LARGE,
        f"The body is larger than {limit} bytes.",
        {"limit_bytes": limit},
        headers={"Connection": "close"},
    )


def _invalid(message: str) -> ApiError:
    return ApiError(ErrorCode.VALIDATION_ERROR, message, {"errors": [{"field": "body", "message": message}]})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Refused("The body gives the same key twice.")
    return result


def _no_constant(name: str) -> NoReturn:
    raise _Refused(f"The body holds {name}, which is not JSON.")


def _bounded_int(digits: str) -> int:
    if len(digits) > 20 or abs(value := int(digits)) > _MAX_INT:
        raise _Refused("The body holds an integer beyond 64 bits.")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _Refused("The body holds a number beyond the range of floating point.")
    return value


def _check_string(text: str) -> None:
    if text.isascii():
        if "\x00" in text:
            raise _Refused("The body holds a NUL character.")
        return
    if "\x00" in text:
        raise _Refused("The body holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Refused("The body holds half of a surrogate pair.") from error


def _walk(root: Any) -> None:
    """Check every string and the shape, without recursion."""
    nodes = 0
    level: list[Any] = [root]
    depth = 0
    while level:
        depth += 1
        below: list[Any] = []
        nodes += len(level)
        if nodes > MAX_NODES:
            raise _Refused(f"The body has more than {MAX_NODES} values.")
        for value in level:
            if type(value) is str:
                _check_string(value)
            elif depth > MAX_DEPTH and type(value) in (dict, list):
                raise _Refused(f"The body is nested deeper than {MAX_DEPTH} levels.")
            elif type(value) is dict:
                for key in value:
                    _check_string(key)
                below.extend(value.values())
            elif type(value) is list:
                below.extend(value)
        level = below


# json.loads recurses in C; this keeps its own limit in force on every supported version.
assert sys.getrecursionlimit() <= 10_000
