"""Cursors: sealed to one listing, and worthless with any character changed."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.web.cursors import Cursors

CURSORS = Cursors("a secret of sixteen characters")
LISTING = "documents/t1/u1/None"
POSITION = ["2026-01-02T03:04:05.000006+00:00", "doc_1"]
SEALED = CURSORS.seal(LISTING, POSITION)


def refused(cursor: str, listing: str = LISTING, cursors: Cursors = CURSORS) -> bool:
    with pytest.raises(ApiError) as caught:
        cursors.open(listing, cursor)
    return caught.value.code is ErrorCode.INVALID_CURSOR


@given(st.lists(st.text(st.characters(codec="utf-8")) | st.integers(0, 2**53) | st.none(), max_size=4))
@settings(deadline=None)
def test_a_cursor_gives_its_position_back(position: list[Any]) -> None:
    assert CURSORS.open(LISTING, CURSORS.seal(LISTING, position)) == position


@pytest.mark.parametrize("place", range(len(SEALED)))
def test_every_character_counts(place: int) -> None:
    for other in "AQgw0-_Z9":
        if other != SEALED[place]:
            assert refused(SEALED[:place] + other + SEALED[place + 1 :])


@pytest.mark.parametrize("listing", ["documents/t2/u1/None", "documents/t1/u2/None", "documents/t1/u1/c", "ui/documents/t1/u1/None", ""])
def test_another_listing_refuses_it(listing: str) -> None:
    assert refused(SEALED, listing)


@pytest.mark.parametrize(
    "cursor",
    [
        "", "x", "====", SEALED[:-1], SEALED + "=", SEALED + "A", SEALED + "\n", " " + SEALED, "ä" * 40, "A" * 10_000, "null", "..",
        base64.urlsafe_b64encode(b'["2026-01-02T03:04:05+00:00","doc_1"]').decode(),
        base64.urlsafe_b64encode(bytes(16) + b'["x","doc_1"]').decode().rstrip("="),
    ],
)  # fmt: skip
def test_what_we_did_not_make_is_refused(cursor: str) -> None:
    assert refused(cursor)


def test_a_cursor_under_another_secret_is_refused() -> None:
    assert refused(SEALED, cursors=Cursors("another secret, as long"))
