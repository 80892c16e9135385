"""The set of ids in eight bytes each, against a set."""

import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from influcoder.data import seen_ids as seen
from influcoder.data.seen_ids import SeenIds


@given(st.lists(st.text(max_size=3), max_size=200))
def test_same_as_a_set(names):
    found, truth = SeenIds(), set()
    for name in names:
        assert (name in found) == (name in truth)
        assert found.add(name) == (name not in truth)
        truth.add(name)
        assert len(found) == len(truth)


def test_same_as_a_set_through_many_growths():
    rng = np.random.default_rng(0)
    names = [str(number) for number in rng.integers(0, 60_000, 100_000)]
    found, truth = SeenIds(), set()
    for name in names:
        assert found.add(name) == (name not in truth)
        truth.add(name)
    assert len(found) == len(truth)
    assert all(name in found for name in truth)
    assert not any(f"other {number}" in found for number in range(1000))


def test_growth_round_the_end_of_the_table(monkeypatch):
    monkeypatch.setattr(seen, "_hash", lambda name: (1 << 40) - 1 - int(name))  # all homes at the very end
    found = SeenIds()
    assert all(found.add(str(number)) for number in range(900))
    assert all(str(number) in found for number in range(900))
    assert "900" not in found


def test_a_few_bytes_an_id():
    found = SeenIds()
    for number in range(100_000):
        found.add(str(number))
    assert sys.getsizeof(found._table) <= 23 * 100_000
