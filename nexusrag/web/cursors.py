"""Signed keyset cursors: a place in one listing of one caller, useless for any other."""

import base64
import binascii
import hashlib
import hmac
from typing import Any

import orjson

from nexusrag.kernel.errors import ApiError, ErrorCode

_MAX = 2048


class Cursors:
    """Makes and reads cursors under UI_CURSOR_SECRET."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def seal(self, listing: str, position: list[Any]) -> str:
        """`listing` names everything that fixes the order: route, tenant, user, sort, filters."""
        payload = orjson.dumps(position)
        return base64.urlsafe_b64encode(self._mark(listing, payload) + payload).decode().rstrip("=")

    def open(self, listing: str, cursor: str) -> list[Any]:
        """The position in `cursor`. Raises ApiError(INVALID_CURSOR) for anything else than our own cursor of this listing."""
        try:
            if len(cursor) > _MAX or not cursor.isascii():
                raise ValueError
            sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            mark, payload = sealed[:16], sealed[16:]
            if not hmac.compare_digest(mark, self._mark(listing, payload)):
                raise ValueError
            if base64.urlsafe_b64encode(sealed).decode().rstrip("=") != cursor:
                raise ValueError  # another spelling of the same bytes
            position: list[Any] = orjson.loads(payload)
        except (ValueError, binascii.Error) as error:
            raise ApiError(ErrorCode.INVALID_CURSOR, "The cursor is not one of this listing; start again without it.") from error
        return position

    def _mark(self, listing: str, payload: bytes) -> bytes:
        return hmac.new(self._secret, listing.encode() + b"\x00" + payload, hashlib.sha256).digest()[:16]
