"""The bound on a share: against its definition, and against a thousand samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from influcoder.maths.bounds import share_at_most


@given(sampled=st.integers(1, 500), data=st.data(), confidence=st.floats(0.5, 0.999))
def test_so_few_hits_would_be_too_rare_beyond_it(sampled, data, confidence):
    hits = data.draw(st.integers(0, sampled))
    bound = share_at_most(hits, sampled, confidence)
    assert hits / sampled <= bound <= 1
    if hits < sampled:
        assert binom.cdf(hits, sampled, bound) == pytest.approx(1 - confidence, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.01, 0.05, 0.3])
def test_it_covers_the_share_in_95_of_100_samples(share):
    rng, population = np.random.default_rng(0), 5000
    above = np.arange(population) < round(share * population)
    covered = [share_at_most(int(rng.permutation(above)[:200].sum()), 200) >= above.mean() for _ in range(1000)]
    assert np.mean(covered) >= 0.94


def test_nothing_sampled_proves_nothing():
    assert share_at_most(0, 0) == 1.0
