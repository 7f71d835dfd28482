"""Quantiles of many processes: off by a bounded share of the value, and the same however they were merged."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexusrag.operations.sla.sketch import ERROR, LEAST, MOST, Sketch

milliseconds = st.floats(LEAST, MOST, allow_nan=False)
several = st.lists(milliseconds, min_size=1, max_size=300)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(several, st.floats(0, 1))
def test_a_quantile_is_off_by_its_bounded_share(values: list[float], q: float) -> None:
    exact = sorted(values)[max(ceil(q * len(values)), 1) - 1]
    assert sketch_of(values).quantile(q) == pytest.approx(exact, rel=ERROR * 1.000001)


@given(st.lists(several, min_size=1, max_size=6), st.randoms())
def test_merged_in_any_order_they_are_the_whole(parts: list[list[float]], random: object) -> None:
    merged, shuffled = Sketch(), list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for part in shuffled:
        merged.merge(sketch_of(part))
    whole = sketch_of([value for part in parts for value in part])
    assert (merged.buckets, merged.count) == (whole.buckets, whole.count)


@given(several)
def test_what_is_written_is_read_again(values: list[float]) -> None:
    sketch = sketch_of(values)
    read = Sketch.load(sketch.dump())
    assert (read.buckets, read.count) == (sketch.buckets, sketch.count)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_counted(odd: float) -> None:
    sketch = Sketch()
    sketch.add(odd)
    assert (sketch.count, sketch.quantile(0.95)) == (0, None)


@pytest.mark.parametrize(("given_ms", "counted"), [(-5.0, LEAST), (0.0, LEAST), (1e300, MOST)])
def test_what_is_beyond_all_bounds_counts_as_the_bound(given_ms: float, counted: float) -> None:
    assert sketch_of([given_ms]).quantile(0.5) == pytest.approx(counted, rel=ERROR * 1.000001)
