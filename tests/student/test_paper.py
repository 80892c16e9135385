"""The paper's recipe: its loss by hand, its blocks, and training of tiny backbones."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from helpers.bert import bert_backbone
from helpers.linear_world import World
from influcoder.data.examples import Example
from influcoder.maths.metrics import spearman_rows
from influcoder.provenance import Provenance, StudentRecord
from influcoder.student.encoder import QUERY_PROMPT, InfluenceEncoder
from influcoder.student.paper import PaperRecipe, _blocks, _share, block_loss, distill_paper, steps

FAST = PaperRecipe(learning_rate=2e-2, epochs=25)


def loss_by_hand(student, teacher, alpha, temperature):
    pearson = np.corrcoef(student.ravel(), teacher.ravel())[0, 1]
    divergences = []
    for s, t in zip(student, teacher, strict=True):
        log_t, log_s = log_softmax(t / temperature), log_softmax(s / temperature)
        divergences.append(np.sum(np.exp(log_t) * (log_t - log_s)))
    return alpha * (1 - pearson) + (1 - alpha) * np.mean(divergences)


def block(seed, rows=8, columns=16):
    return np.random.default_rng(seed).uniform(-1, 1, (rows, columns))


@given(seed=st.integers(0, 999), alpha=st.floats(0, 1), temperature=st.floats(0.05, 2))
def test_loss_by_hand(seed, alpha, temperature):
    student, teacher = block(seed), block(seed + 1)
    found = block_loss(torch.from_numpy(student), torch.from_numpy(teacher), alpha, temperature)
    assert found.item() == pytest.approx(loss_by_hand(student, teacher, alpha, temperature), abs=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_identical_blocks_cost_nothing(alpha):
    same = torch.from_numpy(block(0))
    assert block_loss(same, same, alpha, 0.05).item() == pytest.approx(0, abs=1e-9)


def test_scaled_blocks_cost_no_correlation():
    one = torch.from_numpy(block(0))
    assert block_loss(3 * one + 1, one, 1.0, 0.05).item() == pytest.approx(0, abs=1e-9)


def test_opposite_blocks_cost_two():
    one = torch.from_numpy(block(0))
    assert block_loss(-one, one, 1.0, 0.05).item() == pytest.approx(2)


@pytest.mark.parametrize("teacher", [torch.zeros(8, 16), torch.ones(8, 16)])
def test_constant_teacher_has_finite_gradients(teacher):
    student = torch.from_numpy(block(0)).float().requires_grad_()
    block_loss(student, teacher, 0.5, 0.05).backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("queries", "pool", "expected"),
    [(8, 16, 8), (16, 16, 16), (8, 160, 80), (9, 17, 16), (1, 1, 8), (400, 1600, 800), (3, 33, 24)],
)
def test_steps_show_both_sides_once_an_epoch(queries, pool, expected):
    assert steps(queries, pool, PaperRecipe()) == expected


def epochs_of(queries, pool, recipe):
    total = steps(queries, pool, recipe)
    shown = list(_blocks(queries, pool, recipe, np.random.default_rng(0)))
    each = total // recipe.epochs
    return [shown[start : start + each] for start in range(0, total, each)]


@pytest.mark.parametrize("size", [(16, 32), (8, 64), (40, 16), (8, 16), (20, 50), (9, 33), (3, 5), (100, 7)])
def test_an_epoch_shows_every_index(size):
    for epoch in epochs_of(*size, PaperRecipe(epochs=3)):
        for side, count in enumerate(size):
            assert set(np.concatenate([part[side] for part in epoch]).tolist()) == set(range(count))


@pytest.mark.parametrize("size", [(20, 50), (9, 33), (16, 32), (3, 5), (1, 1)])
def test_blocks_repeat_no_index(size):
    for part in itertools.chain(*epochs_of(*size, PaperRecipe(epochs=3))):
        for indices in part:
            assert 0 < len(indices) == len(set(indices.tolist()))


def test_blocks_have_the_papers_size():
    for rows, columns in itertools.chain(*epochs_of(80, 160, PaperRecipe())):
        assert (len(rows), len(columns)) == (8, 16)


def test_learning_rate_rises_then_falls_to_zero():
    shares = [_share(step, 100, 0.1) for step in range(101)]
    assert shares[:10] == sorted(shares[:10])
    assert max(shares) == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == 0
    assert min(shares[:100]) > 0


@pytest.fixture(params=["bert", "static"])
def make_backbone(request, tokenizer, tiny_bert):
    if request.param == "bert":
        return lambda: bert_backbone(tiny_bert)
    return lambda: World(tokenizer).backbone(tokenizer)


def small_world(tokenizer):
    world = World(tokenizer)
    sample = world.sample(16, 32)
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in (sample.query_features, sample.pool_features)]
    cosines = (sample.query_features / lengths[0]) @ (sample.pool_features / lengths[1]).T
    return sample.queries, sample.pool, cosines.astype(np.float32)


def whole_loss(encoder, queries, pool, influence):
    cosines = encoder.encode_query(queries) @ encoder.encode_pool(pool).T
    return block_loss(torch.from_numpy(cosines), torch.from_numpy(influence), 0.5, 0.05).item()


def test_training_lowers_the_loss(make_backbone, tokenizer):
    queries, pool, influence = small_world(tokenizer)
    before = whole_loss(InfluenceEncoder(make_backbone(), None), queries, pool, influence)
    trained = distill_paper(make_backbone(), queries, pool, influence, FAST)
    assert whole_loss(trained, queries, pool, influence) < 0.9 * before
    scores = trained.encode_query(queries) @ trained.encode_pool(pool).T
    assert spearman_rows(influence, scores).mean() > 0.3


def test_same_seed_same_encoder(make_backbone, tokenizer):
    data, recipe = small_world(tokenizer), PaperRecipe(epochs=2, seed=3, learning_rate=1e-3)
    one, same = (distill_paper(make_backbone(), *data, recipe) for _ in range(2))
    assert one.fingerprint == same.fingerprint
    other = distill_paper(make_backbone(), *data, PaperRecipe(epochs=2, seed=4, learning_rate=1e-3))
    assert other.fingerprint != one.fingerprint


def test_trained_encoder_is_saved_and_loaded(make_backbone, tokenizer, tmp_path):
    queries, pool, influence = small_world(tokenizer)
    trained = distill_paper(
        make_backbone(), queries, pool, influence, PaperRecipe(epochs=1), provenance=Provenance(data="x")
    )
    trained.save(tmp_path / "encoder")
    again = InfluenceEncoder.load(tmp_path / "encoder")
    assert (again.tier, again.fingerprint) == ("transformer", trained.fingerprint)
    assert again.provenance == Provenance(data="x", student=StudentRecord("paper"))
    np.testing.assert_allclose(again.encode_pool(pool), trained.encode_pool(pool), atol=1e-5)
    np.testing.assert_allclose(again.encode_query(queries), trained.encode_query(queries), atol=1e-5)
    assert again.fingerprint == trained.fingerprint  # also once its model is in memory


def test_every_step_is_told(make_backbone, tokenizer):
    told = []
    recipe = PaperRecipe(epochs=2)
    distill_paper(make_backbone(), *small_world(tokenizer), recipe, advance=told.append)
    assert told == [1] * steps(16, 32, recipe)


def test_vectors_are_unit_rows_and_queries_get_their_prompt(make_backbone, tokenizer):
    encoder = InfluenceEncoder(make_backbone(), None)
    examples = [Example("a", "what?", "this"), Example("b", "", "that")]
    pool = encoder.encode_pool(examples)
    np.testing.assert_allclose(np.linalg.norm(pool, axis=1), 1, atol=1e-5)
    queries = encoder.encode_query(examples)
    assert not np.allclose(pool, queries)
    prompted = [Example("a", QUERY_PROMPT + "what?", "this"), Example("b", QUERY_PROMPT, "that")]
    np.testing.assert_allclose(queries, encoder.encode_pool(prompted), atol=1e-5)


def test_fewer_examples_than_a_block(make_backbone, tokenizer):
    queries, pool, influence = small_world(tokenizer)
    trained = distill_paper(make_backbone(), queries[:3], pool[:5], influence[:3, :5], PaperRecipe(epochs=1))
    assert np.isfinite(trained.encode_pool(pool)).all()
