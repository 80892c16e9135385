"""The agreement and its standard error; and how often the sequential test is wrong, over simulated probes."""

import numpy as np
import pytest

from influcoder.maths.drift import Agreement, DriftTest, probe_sizes
from influcoder.maths.metrics import spearman_rows

PROBES = 200
BUDGET = 100


def drawn(rng, queries, pool, noise):
    """(truth, scores) of a world in which queries and pool rows are read with unequal noise."""

    def side(count):
        told = rng.normal(size=(count, 12))
        return told, told + noise * rng.uniform(0.5, 1.5, (count, 1)) * rng.normal(size=told.shape)

    asked, rows = side(queries), side(pool)
    return asked[0] @ rows[0].T, asked[1] @ rows[1].T


def level(noise):
    """The agreement that such a world has on average."""
    rng = np.random.default_rng(9)
    return np.mean([spearman_rows(*drawn(rng, 100, 200, noise)).mean() for _ in range(20)])


def verdicts(then, now):
    """How `PROBES` probes end, and what they take on average: (share stale, share fine, gradients)."""
    rng, ends, taken = np.random.default_rng(0), [], []
    sizes = probe_sizes(1000, 1000, BUDGET)
    for _ in range(PROBES):
        test = DriftTest(Agreement.of(*drawn(rng, 24, 60, then)), len(sizes))
        truth, scores = drawn(rng, *sizes[-1], now)
        verdict = None
        for queries, pool in sizes:
            verdict = test.judge(Agreement.of(truth[:queries, :pool], scores[:queries, :pool]))
            if verdict:
                break
        ends.append(verdict)
        taken.append(queries + pool)
    return ends.count("stale") / PROBES, ends.count("fine") / PROBES, np.mean(taken)


def test_false_alarms_are_rarer_than_promised():
    stale, fine, _ = verdicts(then=0.8, now=0.8)
    assert stale <= 0.05
    assert fine > 0.5


def test_misses_are_rarer_than_promised():
    lost = 1.13
    assert 0.70 < level(lost) / level(0.8) <= 0.76  # the tolerance of a quarter
    stale, fine, _ = verdicts(then=0.8, now=lost)
    assert fine <= 0.05
    assert stale > 0.3


def test_a_large_loss_is_told_by_few_gradients():
    stale, _, gradients = verdicts(then=0.8, now=3.0)
    assert stale == 1
    assert gradients < 45


def test_the_standard_error_is_that_of_repeated_samples():
    rng = np.random.default_rng(1)
    found = [Agreement.of(*drawn(rng, 16, 32, 1.0)) for _ in range(200)]
    spread, told = np.std([one.mean for one in found]), np.mean([one.error for one in found])
    assert spread <= told <= 1.5 * spread  # errs on the safe side


def test_leaving_out_a_column_is_ranking_the_others():
    """The jackknife with ties, against ranks that are made anew."""
    rng = np.random.default_rng(2)
    truth, scores = rng.integers(0, 5, (6, 12)).astype(float), rng.normal(size=(6, 12))
    without = [spearman_rows(np.delete(truth, row, 1), np.delete(scores, row, 1)).mean() for row in range(12)]
    variance = spearman_rows(truth, scores).var(ddof=1) / 6 + 11 * np.var(without)
    assert Agreement.of(truth, scores).error == pytest.approx(np.sqrt(variance))


def test_a_probe_grows_to_all_rows_or_to_the_budget():
    assert probe_sizes(5, 9, 240) == [(5, 9)]
    assert probe_sizes(1000, 1000, 12) == [(4, 8)]
    for queries, pool, budget in [(1000, 1000, 240), (6, 500, 100), (300, 20, 240), (30, 60, 240)]:
        sizes = probe_sizes(queries, pool, budget)
        assert sorted(set(sizes)) == sizes
        assert all(4 <= asked <= queries and 8 <= rows <= pool and asked + rows <= budget for asked, rows in sizes)


def test_the_interval_is_wider_where_it_is_looked_at_more_often():
    now = Agreement(0.4, 0.05, 30, 60)
    once, often = (DriftTest(now, looks).interval(now) for looks in (1, 5))
    assert often[0] < once[0] < 0.4 < once[1] < often[1]
