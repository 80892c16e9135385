"""Metrics against SciPy, scikit-learn, loops, and constructed cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import ndcg_score

from influcoder.maths.metrics import (
    METRICS,
    agreement,
    agreement_with,
    length_controlled_rows,
    ndcg_rows,
    ranks,
    retrieval,
    row_correlations,
    spearman_rows,
    top_overlap_rows,
)

matrices = arrays.arrays(
    np.float64,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0, np.nan]),
)
seeds = st.integers(0, 9999)
INCREASING = [np.exp, np.cbrt, lambda x: 3 * x - 7, np.arctan]


def draw(seed, rows=5, columns=30, ties=False):
    rng = np.random.default_rng(seed)
    if ties:
        return rng.integers(0, 5, (rows, columns)).astype(float)
    return rng.standard_normal((rows, columns))


def brute_overlap(truth, scores, k):
    def top(row):
        return set(sorted(range(len(row)), key=lambda i: (-row[i], i))[:k])

    return [len(top(a) & top(b)) / k for a, b in zip(truth.tolist(), scores.tolist(), strict=True)]


def brute_ndcg(truth, scores, k):
    def gain(order, row):
        return sum(max(row[i], 0) / np.log2(place + 2) for place, i in enumerate(order[:k]))

    values = []
    for row, score in zip(truth.tolist(), scores.tolist(), strict=True):
        best = gain(sorted(range(len(row)), key=lambda i: -row[i]), row)
        found = gain(sorted(range(len(row)), key=lambda i: (-score[i], i)), row)
        values.append(found / best if best else 0.0)
    return values


@given(values=matrices)
def test_ranks_are_scipys(values):
    np.testing.assert_array_equal(ranks(values), rankdata(values, axis=1))
    np.testing.assert_array_equal(ranks(values[0]), rankdata(values[0]))


@given(seed=seeds, ties=st.booleans(), columns=st.integers(3, 40))
def test_spearman_is_scipys(seed, ties, columns):
    truth, scores = draw(seed, columns=columns, ties=ties), draw(seed + 1, columns=columns)
    expected = [spearmanr(a, b).statistic if len(set(a)) > 1 else 0.0 for a, b in zip(truth, scores, strict=True)]
    np.testing.assert_allclose(spearman_rows(truth, scores), expected, atol=1e-12)
    assert agreement_with(truth)(scores) == pytest.approx(np.mean(expected), abs=1e-12)


@given(seed=seeds)
def test_row_correlations_are_numpys(seed):
    a, b = draw(seed), draw(seed + 1)
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(row_correlations(a, b), expected, atol=1e-12)


@given(seed=seeds, k=st.integers(1, 40))
def test_ndcg_is_scikit_learns(seed, k):
    truth, scores = draw(seed), draw(seed + 1)
    gains = np.maximum(truth, 0)
    expected = [ndcg_score(gains[i : i + 1], scores[i : i + 1], k=k) for i in range(len(truth))]
    np.testing.assert_allclose(ndcg_rows(truth, scores, k), expected, atol=1e-9)


@given(seed=seeds, k=st.integers(1, 12))
def test_ndcg_with_tied_scores_goes_by_order(seed, k):
    truth, scores = draw(seed, columns=12), draw(seed + 1, columns=12, ties=True)
    np.testing.assert_allclose(ndcg_rows(truth, scores, k), brute_ndcg(truth, scores, k), atol=1e-9)


def test_ndcg_by_hand():
    truth = np.array([[3.0, -5.0, 1.0, 0.0]])
    scores = np.array([[0.1, 0.9, 0.8, 0.0]])
    expected = (1 / np.log2(3)) / (3 + 1 / np.log2(3))
    assert ndcg_rows(truth, scores, k=2)[0] == pytest.approx(expected)


def test_ndcg_is_0_where_there_is_nothing_to_gain():
    assert ndcg_rows(np.array([[-1.0, -2.0, 0.0]]), np.array([[1.0, 2.0, 3.0]])).tolist() == [0.0]


@given(seed=seeds, columns=st.integers(1, 60), share=st.sampled_from([0.05, 0.1, 0.5, 1.0]), ties=st.booleans())
def test_overlap_is_brute_forces(seed, columns, share, ties):
    truth, scores = draw(seed, columns=columns, ties=ties), draw(seed + 1, columns=columns, ties=ties)
    k = max(1, round(share * columns))
    np.testing.assert_allclose(top_overlap_rows(truth, scores, share), brute_overlap(truth, scores, k))


@pytest.mark.parametrize("transform", INCREASING)
def test_ranks_alone_matter_of_the_scores(transform):
    truth, scores, lengths = draw(0), draw(1), np.arange(30) % 11
    for metric in (spearman_rows, ndcg_rows, top_overlap_rows):
        np.testing.assert_allclose(metric(truth, transform(scores)), metric(truth, scores), atol=1e-12)
    before = length_controlled_rows(truth, scores, lengths)
    np.testing.assert_allclose(length_controlled_rows(truth, transform(scores), lengths), before, atol=1e-12)


@pytest.mark.parametrize("transform", INCREASING)
def test_ranks_alone_matter_of_the_truth(transform):
    truth, scores, lengths = draw(0), draw(1), np.arange(30) % 11
    np.testing.assert_allclose(spearman_rows(transform(truth), scores), spearman_rows(truth, scores), atol=1e-12)
    controlled = length_controlled_rows(truth, scores, lengths)
    np.testing.assert_allclose(length_controlled_rows(transform(truth), scores, lengths), controlled, atol=1e-12)


def test_each_row_may_be_transformed_by_itself():
    truth, scores = draw(0), draw(1)
    moved = scores * np.array([[1], [10], [0.1], [3], [7]]) + np.arange(5)[:, None]
    np.testing.assert_allclose(spearman_rows(truth, moved), spearman_rows(truth, scores), atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6, 1e-9])
def test_constant_row_has_no_ranking(value):
    truth, constant, lengths = draw(0), np.full((5, 30), value), np.arange(30)
    for pair in ((truth, constant), (constant, truth), (constant, constant)):
        assert spearman_rows(*pair).tolist() == [0.0] * 5
        assert length_controlled_rows(*pair, lengths).tolist() == [0.0] * 5


def long_and_short(n=400, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.permutation(n).astype(float)
    return rng, lengths


@pytest.mark.parametrize("n", [20, 100, 400, 3000])
@pytest.mark.parametrize("shape", [lambda x: x, np.log1p, np.sqrt, lambda x: -x])
def test_a_pure_length_effect_is_taken_out(shape, n):
    rng, lengths = long_and_short(n)
    truth = shape(lengths)[None] + rng.standard_normal((6, n)) * np.std(shape(lengths)) / 5
    scores = np.repeat(shape(lengths)[None], 6, axis=0)
    assert spearman_rows(truth, scores).min() > 0.8
    assert np.abs(length_controlled_rows(truth, scores, lengths)).max() < 4 / np.sqrt(n)


def test_another_effect_is_kept():
    rng, lengths = long_and_short()
    topic = rng.standard_normal((6, 400))
    truth, scores = topic + lengths / 40, topic - lengths / 40
    assert spearman_rows(truth, scores).max() < 0
    assert length_controlled_rows(truth, scores, lengths).min() > 0.75


def test_without_a_length_effect_the_control_changes_little():
    rng, lengths = long_and_short()
    topic = rng.standard_normal((6, 400))
    scores = topic + rng.standard_normal((6, 400))
    change = length_controlled_rows(topic, scores, lengths) - spearman_rows(topic, scores)
    assert np.abs(change).max() < 0.05


def test_length_control_by_hand():
    truth, scores, lengths = draw(0), draw(1), np.random.default_rng(2).permutation(30)
    rank = np.argsort(np.argsort(lengths)) + 1.0
    design = np.vander(rank / 30, 4)

    def residual(row):
        ranks = np.argsort(np.argsort(row)) + 1.0
        return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]

    expected = [np.corrcoef(residual(a), residual(b))[0, 1] for a, b in zip(truth, scores, strict=True)]
    np.testing.assert_allclose(length_controlled_rows(truth, scores, lengths), expected, atol=1e-9)


@pytest.mark.parametrize("value", [1, 7, 500])
def test_equal_lengths_explain_nothing(value):
    truth, scores = draw(0), draw(1)
    found = length_controlled_rows(truth, scores, np.full(30, value))
    np.testing.assert_allclose(found, spearman_rows(truth, scores), atol=1e-9)


@pytest.mark.parametrize("distinct", [2, 3])
def test_few_lengths_explain_their_group_means_alone(distinct):
    truth, scores, lengths = draw(0), draw(1), np.arange(30) % distinct
    groups = np.eye(distinct)[lengths]

    def residual(row):
        ranks = np.argsort(np.argsort(row)) + 1.0
        return ranks - groups @ np.linalg.lstsq(groups, ranks, rcond=None)[0]

    expected = [np.corrcoef(residual(a), residual(b))[0, 1] for a, b in zip(truth, scores, strict=True)]
    np.testing.assert_allclose(length_controlled_rows(truth, scores, lengths), expected, atol=1e-9)


@given(seed=seeds, noise=st.floats(0, 3))
def test_intervals_hold_the_value_and_are_seeded(seed, noise):
    truth = draw(seed, rows=12)
    scores = truth + noise * draw(seed + 1, rows=12)
    lengths = np.arange(30)
    found = agreement(truth, scores, lengths, seed=seed)
    assert found == agreement(truth, scores, lengths, seed=seed)
    assert set(found) == {*METRICS, "interval_95"}
    for name in METRICS:
        low, high = found["interval_95"][name]
        assert low <= high
        if name != "aggregated_spearman":  # not a mean over queries: its samples may all lie below it
            assert low - 1e-9 <= found[name] <= high + 1e-9


def test_another_seed_draws_other_intervals():
    truth, scores, lengths = draw(0, rows=12), draw(1, rows=12), np.arange(30)
    one, other = (agreement(truth, scores, lengths, seed=seed) for seed in (0, 1))
    assert one["interval_95"] != other["interval_95"]
    assert all(one[name] == other[name] for name in METRICS)


def test_values_are_means_over_queries_and_of_the_mean_query():
    truth, scores, lengths = draw(0), draw(1), np.arange(30) % 7
    found = agreement(truth, scores, lengths)
    assert found["per_query_spearman"] == pytest.approx(spearman_rows(truth, scores).mean())
    assert found["length_controlled_spearman"] == pytest.approx(length_controlled_rows(truth, scores, lengths).mean())
    assert found["ndcg_at_10"] == pytest.approx(ndcg_rows(truth, scores).mean())
    assert found["top_10_percent_overlap"] == pytest.approx(top_overlap_rows(truth, scores).mean())
    expected = spearmanr(truth.mean(axis=0), scores.mean(axis=0)).statistic
    assert found["aggregated_spearman"] == pytest.approx(expected)


def test_the_truth_agrees_with_itself_and_not_with_its_opposite():
    truth = draw(0)
    same, opposite = agreement(truth, truth, np.arange(30)), agreement(truth, -truth, np.arange(30))
    assert [same[name] for name in METRICS] == pytest.approx([1.0] * 5)
    assert [opposite[name] for name in METRICS[:3]] == pytest.approx([-1.0] * 3)


def test_interval_of_one_query_is_its_value():
    found = agreement(draw(0, rows=1), draw(1, rows=1), np.arange(30))
    for name in METRICS:
        assert found["interval_95"][name] == pytest.approx([found[name]] * 2)


@pytest.mark.parametrize(
    ("k", "recall"),
    [(1, (0.5 + 0) / 2), (2, (0.5 + 1) / 2), (3, (0.5 + 1) / 2), (4, 1.0)],
)
def test_retrieval_by_hand(k, recall):
    scores = np.array([[0.9, 0.1, 0.8, 0.7], [0.3, 0.2, 0.9, 0.1]])
    relevant = np.array([[True, True, False, False], [True, False, False, False]])
    assert retrieval(scores, relevant, k=k) == {f"recall_at_{k}": pytest.approx(recall), "mrr": pytest.approx(0.75)}


def test_retrieval_ties_go_by_order():
    assert retrieval(np.zeros((1, 4)), np.array([[False, False, True, False]]), k=2) == {
        "recall_at_2": 0.0,
        "mrr": pytest.approx(1 / 3),
    }
