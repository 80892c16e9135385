"""A sample of a stream: fair, in order, seeded."""

import numpy as np
import pytest

from influcoder.data.examples import Example
from influcoder.data.sampling import draw
from influcoder.errors import ConfigError


def numbered(count):
    return (Example(str(number), "", "a") for number in range(count))


def drawn(count, size, seed=0):
    return [int(one.id) for one in draw(numbered(count), size, seed).examples]


def test_sample_keeps_the_order_and_is_seeded():
    assert drawn(500, 40) == sorted(set(drawn(500, 40)))
    assert drawn(500, 40) == drawn(500, 40) != drawn(500, 40, seed=1)
    assert draw(numbered(500), 40, 0).of == 500


def test_fewer_rows_than_wanted_are_all_taken():
    assert drawn(7, 40) == list(range(7))


def test_every_row_is_as_likely_as_another():
    counts = np.bincount(np.concatenate([drawn(50, 10, seed) for seed in range(1000)]), minlength=50)
    assert abs(counts - 200).max() < 5 * np.sqrt(200 * 0.8)


def test_no_rows_wanted():
    with pytest.raises(ConfigError, match="a sample of 0 rows"):
        drawn(5, 0)
