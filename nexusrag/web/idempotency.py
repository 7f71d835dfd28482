"""Idempotency: the answer is stored with the effect, in one transaction, and replayed for the same key and payload."""

import hashlib
from typing import Any

import orjson
from fastapi import Response

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.settings import Settings
from nexusrag.web.call import CallContext
from nexusrag.web.gate import Gate
from nexusrag.web.stage import Stage

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
_WRITES = ("POST", "PUT", "PATCH", "DELETE")


async def replay(call: CallContext) -> None:
    """Answer a repeated request from the store, or hold the key until this request's transaction ends.

    Raises IDEMPOTENCY_KEY_REQUIRED, IDEMPOTENCY_KEY_INVALID, IDEMPOTENCY_IN_PROGRESS while the first request runs,
    IDEMPOTENCY_KEY_CONFLICT when the key was used for something else.
    """
    key = _key(call)
    if key is None:
        if call.gate.keyed and HEADER not in call.request.headers:
            raise ApiError(ErrorCode.IDEMPOTENCY_KEY_REQUIRED, "Send an Idempotency-Key, so that the action is taken once.")
        return
    scope, fingerprint = call.principal.subject_id, _fingerprint(call)
    row = await _held(call, scope, key)
    if row["key"] is None:
        call.idempotency = (scope, key, fingerprint)
        call.on_resuming(lambda: _still_first(call, scope, key))
        return
    if row["fingerprint"] != fingerprint:
        raise ApiError(ErrorCode.IDEMPOTENCY_KEY_CONFLICT, "This Idempotency-Key was used for another request; choose a new one.")
    call.headers[REPLAYED] = "true"
    if row["run_id"] is not None:
        call.run_id = row["run_id"]  # a stream is not stored: its key leads to the run
        return
    call.replay = _stored(call, row)


async def repeated_deletion(call: CallContext) -> Response | None:
    """The stored answer to a deletion that finds nothing because the same request of the same person has been carried out.

    Asked when loading finds nothing, so before permissions, which are gone with the resource: it tells nobody what they were
    not told before. With another key, or none, what is gone is not found.
    """
    key = _key(call) if call.request.method == "DELETE" and call.gate.idempotent else None
    if key is None:
        return None
    row = await call.db.raw.fetchrow(
        "select status, headers, body from idempotency_keys "
        "where tenant_id = $1 and scope = $2 and key = $3 and fingerprint = $4 and expires_at > now()",
        call.tenant_id,
        call.principal.subject_id,
        key,
        _fingerprint(call),
    )
    if row is None:
        return None
    call.headers[REPLAYED] = "true"
    return _stored(call, row)


async def store(call: CallContext, status: int, body: bytes) -> None:
    """Keep the answer, in the transaction of the effect.

    Raises IDEMPOTENCY_IN_PROGRESS when another request was faster after all: its commit may fall between the moment that
    `replay` sees and the moment in which it gets the lock. The effect is then rolled back with this transaction.
    """
    if call.idempotency is None:
        return
    scope, key, fingerprint = call.idempotency
    headers = {"content-type": "application/json"} if body else {}
    if call.gate.shown_once is not None:
        body = _without(body, call.gate.shown_once)
    kept = await call.db.raw.fetchval(
        "insert into idempotency_keys (tenant_id, scope, key, fingerprint, status, headers, body, run_id, expires_at) "
        "values ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8, now() + make_interval(hours => $9)) "
        "on conflict (tenant_id, scope, key) do update set fingerprint = excluded.fingerprint, status = excluded.status, "
        "headers = excluded.headers, body = excluded.body, run_id = excluded.run_id, created_at = now(), expires_at = excluded.expires_at "
        "where idempotency_keys.expires_at <= now() returning true",
        call.tenant_id, scope, key, fingerprint, status, orjson.dumps(headers).decode(), body, call.run_id,
        call.of(Settings).web.idempotency_ttl_hours,
    )  # fmt: skip
    if kept is None:
        raise _in_progress()


def _stored(call: CallContext, row: Any) -> Response:
    headers = {**row["headers"], **call.always, **call.headers, "X-Request-Id": call.request_id}
    return Response(row["body"], status_code=row["status"], headers=headers)


def _without(body: bytes, field: str) -> bytes:
    """The answer with null for what is shown once: nobody finds a secret in the store."""
    answer = orjson.loads(body)
    answer["data"][field] = None
    return orjson.dumps(answer)


async def _held(call: CallContext, scope: str, key: str) -> Any:
    """Hold the key until the transaction ends; the row of its answer, or one of nulls."""
    # The lock goes with the transaction, so a crash never leaves a key blocked.
    lock = int.from_bytes(hashlib.sha256(f"{call.tenant_id}\x00{scope}\x00{key}".encode()).digest()[:8], "big", signed=True)
    row = await call.db.raw.fetchrow(
        "select pg_try_advisory_xact_lock($1) as held, s.* from (select 1) one left join idempotency_keys s "
        "on s.tenant_id = $2 and s.scope = $3 and s.key = $4 and s.expires_at > now()",
        lock,
        call.tenant_id,
        scope,
        key,
    )
    if row is None or not row["held"]:
        raise _in_progress()
    return row


async def _still_first(call: CallContext, scope: str, key: str) -> None:
    """The lock went with the former transaction: another request may hold the key now, or be done already."""
    if (await _held(call, scope, key))["key"] is not None:
        raise _in_progress()


def _key(call: CallContext) -> str | None:
    if not call.of(Settings).web.idempotency_enabled:
        return None
    given = call.request.headers.getlist(HEADER)
    if not given:
        field: Any = call.body.get("idempotency_key") if isinstance(call.body, dict) else None
        given = [field] if isinstance(field, str) else []
    if not given:
        return None
    key = given[0]
    if len(given) > 1 or not 1 <= len(key) <= 128 or not key.isascii() or not key.isprintable():
        raise ApiError(ErrorCode.IDEMPOTENCY_KEY_INVALID, "Idempotency-Key must be given once: 1 to 128 printable ASCII characters.")
    return key


def _in_progress() -> ApiError:
    message = "The first request with this Idempotency-Key is still running."
    return ApiError(ErrorCode.IDEMPOTENCY_IN_PROGRESS, message, headers={"Retry-After": "1"})


def _fingerprint(call: CallContext) -> bytes:
    url = call.request.url
    return hashlib.sha256(b"\x00".join([call.request.method.encode(), url.path.encode(), url.query.encode(), call.fingerprint])).digest()


def _needed(gate: Gate, method: str) -> bool:
    return gate.idempotent and method in _WRITES


STAGE = Stage("idempotency", replay, _needed)
