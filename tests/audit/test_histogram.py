"""Quantiles are as near as the module says, in a space that does not grow."""

import statistics
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate.audit.histogram import Histogram

durations = st.integers(0, 2**31 - 1)


def of(numbers: list[int]) -> Histogram:
    histogram = Histogram()
    for number in numbers:
        histogram.add(number)
    return histogram


@given(durations)
def test_one_duration_is_told_within_its_error(duration: int) -> None:
    found = of([duration]).quantile(0.5)
    assert found is not None
    assert abs(found - duration) <= 0.016 * duration


@given(st.lists(durations, min_size=1, max_size=100), st.lists(durations, max_size=100))
def test_merged_is_as_if_counted_in_one(some: list[int], others: list[int]) -> None:
    merged = of(some)
    merged.merge(of(others))
    for share in (0.5, 0.99, 1):
        assert merged.quantile(share) == of(some + others).quantile(share)


def test_many_durations() -> None:
    numbers = [number * number % 10_007 for number in range(20_000)]
    found = of(numbers).quantile(0.5)
    assert found == pytest.approx(statistics.median(numbers), rel=0.016)


def test_nothing_and_too_much() -> None:
    assert of([]).quantile(0.5) is None
    assert of([10**30]).quantile(0.5) == pytest.approx(2**31, rel=0.016)


def test_space() -> None:
    histogram = of([2**31 - 1] * 100)
    assert sys.getsizeof(histogram._counts) < 8 * 1024
