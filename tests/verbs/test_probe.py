"""How fast some work is, from a few rows."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from influcoder.data.examples import Example
from influcoder.verbs.probe import ENOUGH_S, measured_speed, spread


def rows_of(lengths):
    return [Example(f"r{place}", "?", "x" * length) for place, length in enumerate(lengths)]


@pytest.fixture
def clock(monkeypatch):
    """A clock that only work moves."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("influcoder.verbs.probe.time", clock)
    return clock


@pytest.mark.parametrize(("per_character", "most"), [(1e-5, None), (1e-3, None), (1e-3, 64), (1.0, None)])
def test_a_few_rows_tell_what_all_take(clock, per_character, most):
    lengths = np.random.default_rng(0).lognormal(4, 1, 1000).astype(int)
    done = []

    def work(rows):
        done.append(len(rows))
        clock.now += sum(len(row.completion) for row in rows) * per_character

    found = measured_speed(work, rows_of(lengths), most)
    assert found["rows_per_second"] == pytest.approx(
        1 / (lengths.mean() * per_character), rel=0.35 if done == [4] else 0.1
    )
    assert found["rows"] == done[-1] <= (most or 1000)
    assert found["seconds"] >= ENOUGH_S or done[-1] == (most or 1000)
    assert len(done) <= 4


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.data())
def test_spread_rows_are_different_ones_of_the_sample(lengths, data):
    rows = rows_of(lengths)
    count = data.draw(st.integers(1, len(rows)))
    chosen = spread(rows, count)
    assert len({row.id for row in chosen}) == count
    assert spread(rows, len(rows)) == sorted(rows, key=lambda row: len(row.completion))
