"""The body gate's parser: what it refuses, and that it never fails in any other way."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexusrag.kernel.errors import ApiError, ErrorCode
from nexusrag.web.body import MAX_DEPTH, MAX_NODES, fingerprint_of, parse_json

HUGE = 2**63


def refusal(raw: bytes) -> str:
    with pytest.raises(ApiError) as caught:
        parse_json(raw)
    assert caught.value.code is ErrorCode.VALIDATION_ERROR
    return caught.value.message


def nested(depth: int, opening: str = "[", closing: str = "]", inside: str = "") -> bytes:
    return (opening * depth + inside + closing * depth).encode()


@pytest.mark.parametrize("inside", ["", "1"])
def test_lists_may_be_nested_to_the_limit_and_no_deeper(inside: str) -> None:
    parse_json(nested(MAX_DEPTH, inside=inside))
    assert "nested" in refusal(nested(MAX_DEPTH + 1, inside=inside))


def test_objects_may_be_nested_to_the_limit_and_no_deeper() -> None:
    parse_json(nested(MAX_DEPTH - 1, '{"a":', "}", "{}"))
    assert "nested" in refusal(nested(MAX_DEPTH, '{"a":', "}", "{}"))


@pytest.mark.parametrize("bomb", [b"[" * 2_000_000, b'{"a":' * 400_000, nested(1_000_000)])
def test_a_nesting_bomb_is_refused(bomb: bytes) -> None:
    refusal(bomb)


def test_more_values_than_the_limit_are_refused() -> None:
    parse_json(json.dumps([0] * (MAX_NODES - 1)).encode())
    assert "values" in refusal(json.dumps([0] * MAX_NODES).encode())


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"a": "x\\u0000y"}', "NUL"),
        (b'{"a\\u0000": 1}', "NUL"),
        ('{"a": "ü\\u0000"}'.encode(), "NUL"),
        (b'{"a": ["\\ud800"]}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": "\\udc00\\ud800"}', "surrogate"),
        (b'{"a": NaN}', "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"[-Infinity]", "Infinity"),
        (b"[1e400]", "floating point"),
        (b"[-1e400]", "floating point"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": {"b": [{"c": 1, "d": 2, "c": 3}]}}', "twice"),
        (b'{"a": 1, "\\u0061": 2}', "twice"),
        (str(HUGE).encode(), "64 bits"),
        (b"[" + b"9" * 100_000 + b"]", "64 bits"),
        (b"-" + str(HUGE * 2).encode(), "64 bits"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "JSON"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "JSON"),
        (b'{"a": 1} trailing', "JSON"),
        (b"{'a': 1}", "JSON"),
        (b'{"a": 1,}', "JSON"),
        (b'"line\nbreak"', "JSON"),
    ],
)
def test_what_is_no_strict_json_is_refused_and_named(raw: bytes, why: str) -> None:
    assert why in refusal(raw)


def test_a_refusal_does_not_repeat_the_body() -> None:
    for raw in (b'{"password": "hunter2hunter2", }', b'{"hunter2hunter2": 1, "hunter2hunter2": 2}', b'["hunter2hunter2\\u0000"]'):
        assert "hunter2" not in refusal(raw)


def test_what_only_looks_dangerous_is_accepted() -> None:
    assert parse_json(b'["\\ud83d\\ude00", 1e-400, -0.0, 9223372036854775807, -9223372036854775807, "NaN"]') == [
        "\U0001f600", 0.0, 0.0, HUGE - 1, 1 - HUGE, "NaN",
    ]  # fmt: skip


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-HUGE + 1, HUGE - 1) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXT, inner, max_size=5),
    max_leaves=20,
)


@given(_VALUES, st.booleans())
@settings(deadline=None)
def test_every_value_within_the_limits_comes_back_as_it_is(value: Any, escaped: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.dictionaries(_TEXT, _VALUES, max_size=5), st.randoms())
@settings(deadline=None)
def test_the_fingerprint_knows_neither_order_of_keys_nor_spacing(value: dict[str, Any], chance: Any) -> None:
    items = list(value.items())
    chance.shuffle(items)
    shuffled = json.dumps(dict(items), indent=chance.choice([None, 1, 4]), ensure_ascii=chance.random() < 0.5)
    assert fingerprint_of(parse_json(shuffled.encode())) == fingerprint_of(value)


_SHARDS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b"\\u",
    b"d800",
    b"\\",
    b"0",
    b"1e9",
    b"999",
    b"-",
    b"NaN",
    b"null",
    b"\x00",
    b"\xff",
    b" ",
]


@given(st.lists(st.sampled_from(_SHARDS) | st.binary(max_size=4), max_size=40).map(b"".join))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_either_refused_or_storable(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except ApiError as error:
        assert error.code is ErrorCode.VALIDATION_ERROR
    else:
        assert b"\\u0000" not in orjson.dumps(value)
        fingerprint_of(value)
