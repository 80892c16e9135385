"""The closed-form head against scikit-learn and written-out formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from influcoder.student.head import LEAST_EXPLAINED, ClosedFormHead, fit_weights, worthwhile_weights
from influcoder.student.ridge import Choice, FeatureScale, RidgePath, RidgeSolution
from influcoder.student.static_reader import CHANNELS

GROUPS = {"surface": 3, "completion": 6, "prompt": 4}
PENALTIES = [1e-4, 1e-2, 1.0, 10.0]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def grouped(rows, seed=0):
    return {
        name: (number + 1) * normal(rows, width, seed=seed + number) + 5 * number
        for number, (name, width) in enumerate(GROUPS.items())
    }


def make_head(weights=(0.5, 0.0, 2.0), spectral=3.0, width=13, dim=4):
    sides = {
        f"{role}_{name}": value
        for seed, role in enumerate(("query", "pool"))
        for name, value in {
            "mean": normal(width, seed=seed),
            "scale": np.abs(normal(width, seed=10 + seed)),
            "weights": normal(width, dim, seed=20 + seed),
            "bias": normal(dim, seed=30 + seed),
        }.items()
    }
    return ClosedFormHead(
        **sides,
        idf=np.ones(7, np.float32),
        spectral_weight=np.array([spectral], np.float32),
        channel_weights=np.array(weights, np.float32),
    )


def channels(rows, seed, width=8):
    drawn = {name: normal(rows, width, seed=seed + number) for number, name in enumerate(CHANNELS)}
    return {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in drawn.items()}


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("rows", [30, 8])
def test_ridge_is_scikit_learns(rows, penalty):
    features, targets = grouped(rows), normal(rows, 5, seed=1)
    side = RidgeSolution.solve(features, targets, Choice(tuple(GROUPS), penalty, 0.0))
    joined = side.scale.join(features)
    expected = Ridge(alpha=penalty * rows).fit(joined.astype(np.float64), targets)
    np.testing.assert_allclose(side.predict(features), expected.predict(joined), atol=2e-3)


@pytest.mark.parametrize("rows", [40, 13, 9])
def test_a_path_is_ridge_whichever_gram_is_smaller(rows):
    features, targets = normal(rows, 13), normal(rows, 5, seed=1)
    path = RidgePath.of(features, targets)
    assert len(path.values) == min(rows, 13)
    for penalty in PENALTIES:
        normal_equations = features.T @ features + penalty * rows * np.eye(13)
        expected = np.linalg.solve(normal_equations, features.T @ (targets - targets.mean(axis=0)))
        np.testing.assert_allclose(path.basis @ path.at(penalty), expected, atol=2e-3)


def chosen(rows=60, seed=0):
    """The choice where targets are a linear map of the group `completion` alone."""
    features = grouped(rows, seed)
    targets = features["completion"] @ normal(6, 4, seed=3)
    train, validation = ({name: one[part] for name, one in features.items()} for part in (slice(40), slice(40, None)))
    truth = targets[40:]
    return Choice.best(train, validation, targets[:40], lambda found: -float(((found - truth) ** 2).mean()))


def test_the_group_that_tells_is_chosen_first():
    assert chosen().names[0] == "completion"


def test_penalty_is_weak_where_nothing_is_noise():
    assert chosen().penalty <= 1e-3


@given(seed=st.integers(0, 99))
def test_every_group_has_the_same_variance(seed):
    features = grouped(50, seed)
    joined = FeatureScale.fit(features, tuple(GROUPS)).join(features)
    np.testing.assert_allclose(joined.mean(axis=0), 0, atol=1e-4)
    start = 0
    for width in GROUPS.values():
        assert joined[:, start : start + width].var(axis=0).sum() == pytest.approx(1, rel=1e-3)
        start += width


def test_scale_is_that_of_the_fitted_examples():
    features = grouped(50)
    scale = FeatureScale.fit(features, tuple(GROUPS))
    moved = {name: values + 1 for name, values in features.items()}
    np.testing.assert_allclose(scale.join(moved) - scale.join(features), np.tile(scale.scale, (50, 1)), atol=1e-4)


def test_groups_that_are_not_named_are_left_out():
    features = grouped(20)
    scale = FeatureScale.fit(features, ["surface"])
    assert scale.names == ("surface",)
    assert scale.join(features).shape == (20, GROUPS["surface"])


def test_constant_group_stays_finite():
    scale = FeatureScale.fit({"surface": np.full((5, 3), 2.0, np.float32)}, ["surface"])
    np.testing.assert_array_equal(scale.join({"surface": np.full((2, 3), 2.0, np.float32)}), np.zeros((2, 3)))


@pytest.mark.parametrize("role", ["query", "pool"])
def test_coordinates_are_the_scaled_features_times_weights(role):
    head, features = make_head(), normal(6, 13, seed=5)
    mean, scale = getattr(head, f"{role}_mean"), getattr(head, f"{role}_scale")
    weights, bias = getattr(head, f"{role}_weights"), getattr(head, f"{role}_bias")
    expected = np.stack([((row - mean) * scale) @ weights + bias for row in features])
    np.testing.assert_allclose(head.coordinates(role, features), expected, atol=1e-4)


@pytest.mark.parametrize("weights", [(0.5, 0.0, 2.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("spectral", [0.0, 3.0])
def test_inner_products_are_the_weighted_sum(weights, spectral):
    head = make_head(weights, spectral)
    one, other = normal(5, 4, seed=1), normal(7, 4, seed=2)
    left, right = channels(5, seed=3), channels(7, seed=8)
    found = head.vectors(one, left) @ head.vectors(other, right).T
    expected = spectral * one @ other.T
    for name, weight in zip(CHANNELS, weights, strict=True):
        expected = expected + weight * left[name] @ right[name].T
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_channels_without_weight_take_no_room():
    assert make_head((0.5, 0.0, 2.0)).vectors(normal(2, 4), channels(2, 0)).shape == (2, 4 + 2 * 8)


def test_tensors_make_the_same_head_again():
    head = make_head()
    again = ClosedFormHead(**head.tensors())
    assert again.pool_bias.size == head.pool_bias.size == 4
    part = normal(3, 4), channels(3, 0)
    np.testing.assert_array_equal(again.vectors(*part), head.vectors(*part))


@given(planted=st.lists(st.floats(0, 3), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_planted_weights_are_found(planted, seed):
    parts = [normal(15, 20, seed=seed + number) for number in range(len(planted))]
    offsets = normal(15, 1, seed=seed + 50)
    truth = sum(weight * part for weight, part in zip(planted, parts, strict=True)) + offsets
    weights, left = fit_weights(truth, parts)
    np.testing.assert_allclose(weights, planted, atol=1e-3)
    assert left < 1e-4


def test_what_would_be_negative_is_zero():
    parts = [normal(15, 20, seed=number) for number in range(3)]
    found, _ = fit_weights(2 * parts[0] - parts[1] + parts[2], parts)
    assert found[1] == 0
    assert found[[0, 2]] == pytest.approx([2, 1], abs=0.2)


def test_weights_are_the_least_squares_among_the_non_negative():
    parts = [normal(15, 20, seed=number) for number in range(3)]
    truth = normal(15, 20, seed=9) + parts[0] - parts[1]

    def miss(weights):
        gap = truth - sum(w * part for w, part in zip(weights, parts, strict=True))
        return float(((gap - gap.mean(axis=1, keepdims=True)) ** 2).sum())

    found, left = fit_weights(truth, parts)
    assert left == pytest.approx(miss(found), rel=1e-5)
    nearby = np.maximum(found + 0.05 * np.random.default_rng(0).standard_normal((50, 3)), 0)
    assert all(miss(found) <= miss(other) + 1e-4 for other in nearby)


def test_useless_part_is_no_obstacle():
    part = normal(15, 20)
    found, _ = fit_weights(2 * part, [part, np.zeros_like(part), part])
    assert np.isfinite(found).all()
    assert found[0] + found[2] == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("spectral", [0.5, 2.0])
@pytest.mark.parametrize(("share", "kept"), [(0.02, True), (0.0005, False)])
def test_channels_are_kept_for_the_share_of_what_is_left_that_they_explain(share, kept, spectral):
    """Whatever the spectral part explains, and however large its row means are."""
    seen, channel, noise = np.random.default_rng(0).standard_normal((3, 75, 150)).astype(np.float32)
    truth = spectral * seen + np.float32(share**0.5) * channel + np.float32((1 - share) ** 0.5) * noise
    weights = worthwhile_weights(truth + normal(75, 1, seed=3), [seen, channel])
    if kept:
        assert weights == pytest.approx([spectral, share**0.5], abs=0.05)
    else:
        assert weights.tolist() == [1, 0]


def test_channels_that_fit_the_noise_of_few_pairs_are_left_out():
    """Three weights explain more than .005 of what is left of 9 x 9 random pairs nearly always, in these very pairs."""
    kept = fits = 0
    for seed in range(60):
        seen, noise, *channels = np.random.default_rng(seed).standard_normal((5, 9, 9)).astype(np.float32)
        truth, parts = seen + noise, [seen, *channels]
        left, without = fit_weights(truth, parts)[1], fit_weights(truth, parts[:1])[1]
        fits += without - left > LEAST_EXPLAINED * without
        kept += bool(worthwhile_weights(truth, parts)[1:].any())
    assert fits > 30
    assert kept < 20


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)])
def test_one_query_or_row_decides_on_no_channels(shape):
    assert worthwhile_weights(normal(*shape), [normal(*shape, seed=2), normal(*shape)]).tolist() == [1, 0]


@pytest.mark.parametrize("shape", [(2, 2), (2, 9), (4, 3)])
def test_few_queries_and_rows_are_judged_in_as_many_folds(shape):
    assert np.isfinite(worthwhile_weights(normal(*shape), [normal(*shape, seed=2), normal(*shape)])).all()


def test_channels_alone_are_kept_where_coordinates_tell_nothing():
    channel, nothing = normal(15, 20, seed=1), np.zeros((15, 20), np.float32)
    assert worthwhile_weights(channel, [nothing, channel]) == pytest.approx([0, 1])


def test_where_nothing_is_to_be_told_the_coordinates_stay():
    nothing = np.ones((15, 20), np.float32)
    assert worthwhile_weights(nothing, [normal(15, 20), normal(15, 20, seed=2)]).tolist() == [1, 0]
