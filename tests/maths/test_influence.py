"""Spectral targets against numpy's own decomposition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from influcoder.maths.influence import SpectralTargets, cross_influence


def features(rows, width, seed):
    drawn = np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def best_of_rank(matrix, rank):
    u, s, vt = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


sizes = st.integers(1, 12)


@given(n_queries=sizes, n_pool=sizes, width=st.integers(1, 20), seed=st.integers(0, 999))
def test_influence_is_the_inner_product_of_rows(n_queries, n_pool, width, seed):
    queries, pool = features(n_queries, width, seed), features(n_pool, width, seed + 1)
    expected = [[sum(a * b for a, b in zip(q, p, strict=True)) for p in pool.tolist()] for q in queries.tolist()]
    np.testing.assert_allclose(cross_influence(queries, pool), expected, atol=1e-5)


@given(n_queries=sizes, n_pool=sizes, width=st.integers(1, 20), seed=st.integers(0, 999))
def test_at_full_rank_inner_products_are_the_influences(n_queries, n_pool, width, seed):
    queries, pool = features(n_queries, width, seed), features(n_pool, width, seed + 1)
    targets = SpectralTargets.of(queries, pool, dim=100)
    np.testing.assert_allclose(targets.queries @ targets.pool.T, queries @ pool.T, atol=1e-4)


@given(rank=st.integers(1, 8), seed=st.integers(0, 999))
def test_truncation_is_the_best_of_its_rank(rank, seed):
    queries, pool = features(8, 30, seed), features(15, 30, seed + 1)
    targets = SpectralTargets.of(queries, pool, dim=rank)
    matrix = queries @ pool.T
    np.testing.assert_allclose(targets.queries @ targets.pool.T, best_of_rank(matrix, rank), atol=1e-4)
    discarded = np.linalg.svd(matrix, compute_uv=False)[rank:]
    error = np.linalg.norm(matrix - targets.queries @ targets.pool.T)
    assert error == pytest.approx(np.linalg.norm(discarded), abs=1e-4)  # Eckart and Young


@pytest.mark.parametrize("dim", [2, 5, 10])
def test_projector_takes_training_queries_to_their_targets(dim):
    queries, pool = features(10, 40, 0), features(25, 40, 1)
    targets = SpectralTargets.of(queries, pool, dim)
    np.testing.assert_allclose(queries @ targets.query_projector, targets.queries, atol=1e-4)


def test_projected_new_queries_have_their_influences():
    pool = features(12, 40, 1)
    targets = SpectralTargets.of(features(20, 40, 0), pool, dim=12)  # as many as the pool has: nothing is lost
    new = features(6, 40, 7)
    np.testing.assert_allclose(new @ targets.query_projector @ targets.pool.T, new @ pool.T, atol=1e-3)


def test_projected_new_queries_are_the_least_squares_coordinates():
    pool, new = features(30, 40, 1), features(6, 40, 7)
    targets = SpectralTargets.of(features(20, 40, 0), pool, dim=4)
    nearest, *_ = np.linalg.lstsq(targets.pool, (new @ pool.T).T, rcond=None)
    np.testing.assert_allclose(new @ targets.query_projector, nearest.T, atol=1e-3)


def test_dimensions_without_influence_are_left_out():
    base = np.eye(3, 10, dtype=np.float32)
    queries = np.repeat(base, 4, axis=0)
    targets = SpectralTargets.of(queries, np.vstack([base, base]), dim=8)
    assert targets.queries.shape == (12, 3)
    assert targets.pool.shape == (6, 3)
    assert targets.query_projector.shape == (10, 3)
    assert np.isfinite(targets.query_projector).all()


def test_both_sides_carry_the_same_energy():
    targets = SpectralTargets.of(features(9, 30, 0), features(14, 30, 1), dim=5)
    gram_queries, gram_pool = targets.queries.T @ targets.queries, targets.pool.T @ targets.pool
    np.testing.assert_allclose(gram_queries, gram_pool, atol=1e-4)
    np.testing.assert_allclose(gram_queries, np.diag(np.diag(gram_queries)), atol=1e-4)


def test_result_is_repeatable():
    first, second = (SpectralTargets.of(features(9, 30, 0), features(14, 30, 1), dim=5) for _ in range(2))
    for one, other in zip((first.queries, first.pool), (second.queries, second.pool), strict=True):
        assert one.tobytes() == other.tobytes()


def test_pool_examples_are_projected_as_queries_are():
    queries, pool = features(20, 40, 0), features(12, 40, 1)
    targets = SpectralTargets.of(queries, pool, dim=12)
    np.testing.assert_allclose(pool @ targets.pool_projector, targets.pool, atol=1e-5)
