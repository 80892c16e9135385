import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from helpers.teacher_oracles import damping_of, inverse_fisher, mean_of_inverses, relative_error, second_moment
from influcoder.errors import ModelError
from influcoder.maths.precondition import TASK_SHARE, Preconditioner

KINDS = ("fisher", "datainf", "mixed")
shapes = st.tuples(st.integers(2, 14), st.integers(1, 14), st.integers(0, 10_000))


def sample(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    decay = torch.logspace(0, -1, d)  # a spectrum, as gradients have
    return torch.randn(n, d, generator=generator) * decay


def whole(d):
    return [slice(0, d)]


@given(shapes, st.sampled_from([0.01, 0.1, 1.0]))
@hypothesis_settings(max_examples=60)
def test_fisher_is_the_explicit_inverse(shape, share):
    n, d, seed = shape
    rows, others = sample(n, d, seed), sample(5, d, seed + 1)
    fitted = Preconditioner.fit("fisher", whole(d), rows, damping=share)
    expected = others.double() @ inverse_fisher(rows, damping_of(rows, share))
    assert relative_error(fitted(others, 1.0), expected) < 1e-3


@given(shapes, st.sampled_from([0.01, 0.1, 1.0]))
@hypothesis_settings(max_examples=40)
def test_datainf_is_the_mean_of_the_inverses(shape, share):
    n, d, seed = shape
    rows, others = sample(n, d, seed), sample(5, d, seed + 1)
    fitted = Preconditioner.fit("datainf", whole(d), rows, damping=share)
    expected = others.double() @ mean_of_inverses(rows, damping_of(rows, share))
    assert relative_error(fitted(others, 1.0), expected) < 1e-3


@given(shapes, st.sampled_from(KINDS))
@hypothesis_settings(max_examples=60)
def test_half_the_power_twice_is_the_whole(shape, kind):
    n, d, seed = shape
    rows, others = sample(n, d, seed), sample(4, d, seed + 1)
    fitted = Preconditioner.fit(kind, whole(d), rows, sample(6, d, seed + 2))
    assert relative_error(fitted(fitted(others)), fitted(others, 1.0)) < 1e-4


@pytest.mark.parametrize(("n", "d"), [(5, 200), (60, 20)])
def test_mixed_is_its_formula(n, d):
    pool, queries = sample(n, d), 7 * sample(6, d, 1)
    k = math.ceil(TASK_SHARE * d) - 1
    a, b = (float(torch.linalg.eigvalsh(second_moment(side)).flip(0)[k]) for side in (pool, queries))
    share = a / (a + b)
    mixed = share * second_moment(queries) + (1 - share) * second_moment(pool)
    damping = 0.1 * float(mixed.trace()) / min(n + 6, d)
    expected = torch.linalg.inv(mixed + damping * torch.eye(d, dtype=torch.float64))
    fitted = Preconditioner.fit("mixed", whole(d), pool, queries, damping=0.1)
    others = sample(4, d, 2)
    assert relative_error(fitted(others, 1.0), others.double() @ expected) < 1e-3


@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_mixed_gives_both_sides_the_same_say_whatever_their_scale(scale):
    pool, queries = sample(40, 12), sample(30, 12, 1)
    base, other = (Preconditioner.fit("mixed", whole(12), pool, by * queries) for by in (1, scale))
    directions = sample(4, 12, 2)
    one, two = base(directions), other(directions)
    assert torch.cosine_similarity(one, two).min() > 0.98


@given(shapes, st.integers(1, 8))
@hypothesis_settings(max_examples=40)
def test_subspace_is_the_projection_on_the_queries_leading_directions(shape, kept):
    m, d, seed = shape
    queries, others = sample(m, d, seed), sample(5, d, seed + 1)
    fitted = Preconditioner.fit("subspace", whole(d), others, queries, dim=kept)
    coordinates = fitted(others).double()
    right = torch.linalg.svd(queries.double(), full_matrices=False)[2][:kept]
    expected = others.double() @ right.T @ right @ others.double().T
    assert coordinates.shape[1] == fitted.dim == min(kept, m, d)
    assert relative_error(coordinates @ coordinates.T, expected) < 1e-3


def test_subspace_keeps_lengths_whatever_the_power():
    fitted = Preconditioner.fit("subspace", whole(6), sample(4, 6), sample(4, 6, 1), dim=2)
    torch.testing.assert_close(fitted(sample(3, 6, 2), 0.5), fitted(sample(3, 6, 2), 1.0))


@pytest.mark.parametrize(("n", "d"), [(8, 30), (40, 12)])
def test_truncated_curvature_is_that_of_the_best_rank_k(n, d):
    rows, others, kept = sample(n, d), sample(5, d, 1), 4
    values, vectors = torch.linalg.eigh(second_moment(rows))
    top = vectors[:, -kept:]
    damping = damping_of(rows, 0.1)
    best = top @ torch.diag(values[-kept:]) @ top.T
    expected = others.double() @ torch.linalg.inv(best + damping * torch.eye(d, dtype=torch.float64))
    fitted = Preconditioner.fit("fisher", whole(d), rows, damping=0.1, dim=kept)
    assert fitted.blocks[0].basis.shape == (d, kept)
    assert relative_error(fitted(others, 1.0), expected) < 1e-3


def test_blocks_know_nothing_of_each_other():
    rows, others = sample(9, 10), sample(3, 10, 1)
    fitted = Preconditioner.fit("fisher", [slice(0, 4), slice(4, 10)], rows)
    for part in (slice(0, 4), slice(4, 10)):
        alone = Preconditioner.fit("fisher", whole(part.stop - part.start), rows[:, part])
        torch.testing.assert_close(fitted(others)[:, part], alone(others[:, part]))


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_size_of_the_gradients_changes_nothing_but_the_scale(size):
    rows, others = sample(8, 20), sample(3, 20, 1)
    usual, other = (Preconditioner.fit("fisher", whole(20), by * rows) for by in (1, size))
    torch.testing.assert_close(other(others * size), usual(others), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [*KINDS, "subspace"])
def test_zero_gradients_are_refused(kind):
    with pytest.raises(ModelError, match="every gradient of the sample"):
        Preconditioner.fit(kind, whole(5), torch.zeros(4, 5), torch.zeros(4, 5))


@pytest.mark.parametrize("kind", ["mixed", "subspace"])
def test_missing_queries_are_refused(kind):
    with pytest.raises(ModelError, match=f"{kind} curvature is learnt from queries"):
        Preconditioner.fit(kind, whole(5), sample(4, 5))


@pytest.mark.parametrize("kind", [*KINDS, "subspace"])
def test_state_gives_it_back_to_half_precision(kind):
    rows, queries, others = sample(9, 30), sample(7, 30, 1), sample(5, 30, 2)
    fitted = Preconditioner.fit(kind, [slice(0, 10), slice(10, 30)], rows, queries)
    read = Preconditioner.from_state(fitted.state())
    again = Preconditioner.from_state(read.state())
    assert read.dim == fitted.dim
    assert relative_error(read(others), fitted(others)) < 5e-3
    np.testing.assert_array_equal(again(others), read(others))


class RidgeRegression:
    """y = xᵀw under λ|w|², fitted in closed form; everything about leaving a point out is known exactly."""

    def __init__(self, n=400, d=5, share=0.1):
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(n, d, generator=generator, dtype=torch.float64)
        self.y = self.x @ torch.ones(d, dtype=torch.float64)
        self.y += 0.5 * torch.randn(n, generator=generator, dtype=torch.float64)
        self.query = torch.randn(6, d, generator=generator, dtype=torch.float64)
        self.wanted = torch.randn(6, generator=generator, dtype=torch.float64)
        self.penalty = n * damping_of(self.x, share) * torch.eye(d, dtype=torch.float64)
        self.w = self.solve(torch.ones(n, dtype=torch.bool))

    def solve(self, kept):
        x = self.x[kept]
        return torch.linalg.solve(x.T @ x + self.penalty, x.T @ self.y[kept])

    def gradients(self, x, y):
        return ((x @ self.w - y)[:, None] * x).float()

    def query_losses(self, w):
        return 0.5 * (self.query @ w - self.wanted) ** 2


def test_influence_is_closed_form_leave_one_out_to_first_order():
    model = RidgeRegression()
    n, d = model.x.shape
    # Gauss-Newton: the Fisher of a least-squares model is that of x alone
    curvature = Preconditioner.fit("fisher", whole(d), model.x.float(), damping=0.1)
    queries = curvature(model.gradients(model.query, model.wanted))
    pool = curvature(model.gradients(model.x, model.y))
    influences = (queries @ pool.T).double() / n
    leverage = (model.x @ torch.linalg.inv(model.x.T @ model.x + model.penalty) * model.x).sum(dim=1)
    shown = range(0, n, 40)
    without = [model.solve(torch.arange(n) != left_out) for left_out in shown]
    slopes = (model.query @ model.w - model.wanted)[:, None] * model.query
    for left_out, w in zip(shown, without, strict=True):
        first_order = slopes @ (w - model.w)  # the query's loss, to first order in the move of w
        expected = influences[:, left_out] / (1 - leverage[left_out])
        torch.testing.assert_close(first_order, expected, rtol=1e-3, atol=1e-7)
    real = torch.stack([model.query_losses(w) - model.query_losses(model.w) for w in without], dim=1)
    estimated = influences[:, list(shown)]
    assert np.corrcoef(real.flatten(), estimated.flatten())[0, 1] > 0.99
    assert (torch.sign(real) == torch.sign(estimated)).double().mean() > 0.9


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("kind", ["fisher", "datainf", "mixed", "subspace"])
def test_back_is_the_transpose(kind, power):
    pool, queries = sample(40, 12), sample(30, 12, 1)
    curvature = Preconditioner.fit(kind, [slice(0, 5), slice(5, 12)], pool, queries, dim=3)
    whole_power = torch.cat([curvature(row[None], power) for row in torch.eye(12)])
    vectors = sample(4, curvature.dim, 2)
    torch.testing.assert_close(curvature.back(vectors, power), vectors @ whole_power.T, rtol=1e-4, atol=1e-5)
