"""The interval that measuring scripts give beside a mean over seeds."""

import pytest

from helpers.measuring import load_script


def test_the_interval_is_students():
    told = load_script("over_seeds").over_seeds([1.0, 2.0, 3.0])
    assert told["mean"] == 2
    assert told["interval_95"] == pytest.approx([2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5], rel=1e-4)
    assert told["seeds"] == [1, 2, 3]
