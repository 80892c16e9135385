"""The trust number: calibrated on queries it has not seen, and no cleverer than its data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from influcoder.student.trust import COVERED, LEAST_QUERIES, Trust


def queries(seed, count, slope, noise):
    """Vectors of random length whose agreement grows with its logarithm."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 6)).astype(np.float32)
    lengths = np.exp(rng.standard_normal(count))
    vectors *= (lengths / np.linalg.norm(vectors, axis=1))[:, None]
    return vectors, np.clip(0.4 + slope * np.log(lengths) + noise * rng.standard_normal(count), -1, 1)


def test_length_tells_where_it_does():
    trust = Trust.fit(*queries(0, 80, slope=0.1, noise=0.02))
    vectors, truth = queries(1, 400, slope=0.1, noise=0.02)
    assert np.corrcoef(trust.expect(vectors)[:, 0], truth)[0, 1] > 0.9
    assert trust.slope == pytest.approx(0.1, abs=0.02)


def test_length_is_left_out_where_it_tells_nothing():
    """Left out, queries are predicted worse with it than without, more often than not."""
    slopes = [Trust.fit(*queries(seed, 80, slope=0, noise=0.1)).slope for seed in range(40)]
    assert np.mean([slope == 0 for slope in slopes]) > 0.6


@pytest.mark.parametrize("count", [LEAST_QUERIES, 75])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_band_holds_what_it_promises(slope, count):
    inside = []
    for seed in range(60):
        trust = Trust.fit(*queries(seed, count, slope, noise=0.08))
        vectors, truth = queries(1000 + seed, 100, slope, noise=0.08)
        _, low, high = trust.expect(vectors).T
        inside.append(np.mean((truth >= low) & (truth <= high)))
    assert COVERED - 0.02 < np.mean(inside) < COVERED + 0.06


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 30), noise=st.floats(0, 2))
def test_bands_are_ordered_and_within_reach(seed, count, noise):
    vectors, truth = queries(seed, count, 0.2, noise)
    found = Trust.fit(vectors, truth).expect(vectors * 100)
    assert np.isfinite(found).all()
    assert (np.abs(found) <= 1).all()
    assert (found[:, 1] <= found[:, 2]).all()


@pytest.mark.parametrize("count", range(2, LEAST_QUERIES))
def test_few_queries_promise_nothing(count):
    vectors, truth = queries(3, count, slope=0.1, noise=0.05)
    found = Trust.fit(vectors, truth).expect(vectors)
    np.testing.assert_allclose(found, [[truth.mean(), -1, 1]] * count, atol=1e-6)


def test_no_length_at_all_is_survived():
    trust = Trust.fit(np.zeros((12, 3), np.float32), np.linspace(0.1, 0.4, 12))
    assert np.isfinite(trust.expect(np.zeros((1, 3), np.float32))).all()
