import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import oracles
from helpers.folders import contents
from helpers.processes import kill, start, wait_for
from helpers.tiny import save_decoder, some_examples, tiny_decoder, tiny_tokenizer
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError, StoreCorrupt, StoreMismatch
from influcoder.evaluation import retraining as causal
from influcoder.evaluation.retraining import (
    draw_subsets,
    interval,
    lds,
    one_step,
    pooled_step_agreement,
    retrained_losses,
    step_agreement,
)
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings
from influcoder.store.output_folder import claim

SETTINGS = FinetuneSettings(epochs=1, learning_rate=1e-3, rows_a_step=4, precision="fp32")
POOL = [
    Example(f"p{n}", f"{n} plus {n % 3} ", f"is {n % 5}, four and {['Paris', 'Rome', 'Madrid', 'seven'][n % 4]}")
    for n in range(12)
]
QUERIES = some_examples()


def gradients(decoder, examples):
    """The whole gradient of each example, (n, parameters), one by one through autograd."""
    decoder.model.requires_grad_(True)
    rows = []
    for tokens in decoder.tokenise(examples):
        parts = torch.autograd.grad(oracles.loss(decoder.model, tokens), list(decoder.model.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]).double().numpy())
    decoder.model.requires_grad_(False)
    return np.stack(rows)


@pytest.fixture(scope="module")
def stepped():
    """(changes of one step at the default rate, exact dot products of all gradients)."""
    decoder = tiny_decoder("llama", tiny_tokenizer())
    return one_step(decoder, POOL, QUERIES), gradients(decoder, QUERIES) @ gradients(decoder, POOL).T


def test_one_step_changes_the_loss_as_the_gradients_say(stepped):
    changes, dots = stepped
    assert step_agreement(dots, changes).min() > 0.98
    assert pooled_step_agreement(dots, changes) > 0.999
    np.testing.assert_allclose(changes, causal.STEP_RATE * dots, atol=0.03 * causal.STEP_RATE * np.abs(dots).max())


def test_halving_the_rate_halves_the_changes(stepped, decoder):
    whole, half = stepped[0], one_step(decoder, POOL, QUERIES, causal.STEP_RATE / 2)
    assert np.linalg.norm(2 * half - whole) < 0.03 * np.linalg.norm(whole)
    too_far = [one_step(decoder, POOL, QUERIES, rate) for rate in (0.1, 0.05)]
    assert np.linalg.norm(2 * too_far[1] - too_far[0]) > 0.1 * np.linalg.norm(too_far[0])


def test_every_step_starts_from_the_same_weights(stepped, decoder):
    before = {name: tensor.clone() for name, tensor in decoder.model.state_dict().items()}
    backwards = one_step(decoder, POOL[::-1], QUERIES)[:, ::-1]
    np.testing.assert_array_equal(backwards, stepped[0])
    alone = one_step(decoder, POOL[7:8], QUERIES)
    np.testing.assert_array_equal(alone, stepped[0][:, 7:8])
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_restored_bitwise(decoder, dtype, monkeypatch):
    decoder.model.to(dtype)
    copies = []
    restore = causal._restore
    monkeypatch.setattr(causal, "_restore", lambda model, start: (restore(model, start), copies.append(model)))
    one_step(decoder, POOL[:2], QUERIES, 0.1)
    for name, tensor in copies[-1].state_dict().items():
        assert tensor.dtype is torch.float32
        assert torch.equal(tensor, decoder.model.state_dict()[name].float())


def test_an_example_without_loss_changes_nothing(tokenizer):
    decoder = tiny_decoder("llama", tokenizer, max_length=2)
    decoder.tokenise = lambda examples, tokenise=decoder.tokenise: [
        dataclasses.replace(one, start=len(one.ids)) if example.id == "p0" else one
        for example, one in zip(examples, tokenise(examples), strict=True)
    ]
    changes = one_step(decoder, POOL[:2], QUERIES)
    assert (changes[:, 0] == 0).all()
    assert (changes[:, 1] != 0).any()


def test_wrong_rates(decoder):
    with pytest.raises(ConfigError, match="rate is -1"):
        one_step(decoder, POOL, QUERIES, -1)
    with pytest.raises(ModelError, match="a step on 'p0' makes a loss that is not finite"):
        one_step(decoder, POOL, QUERIES, 1e30)


def test_subsets():
    subsets = draw_subsets(11, 40, 0.5, seed=1)
    assert subsets.shape == (40, 6)
    assert all(len(set(members)) == 6 for members in subsets.tolist())
    assert (np.diff(subsets, axis=1) > 0).all()
    counts = np.bincount(subsets.ravel(), minlength=11)
    assert counts.min() > 10
    assert (draw_subsets(11, 40, 0.5, seed=1) == subsets).all()
    assert (draw_subsets(11, 40, 0.5, seed=2) != subsets).any()


@pytest.mark.parametrize(("n_pool", "count", "share"), [(10, 1, 0.5), (10, 5, 0.0), (10, 5, 1.0), (1, 5, 0.5)])
def test_subsets_that_say_nothing_are_refused(n_pool, count, share):
    with pytest.raises(ConfigError, match="neither empty nor the whole pool"):
        draw_subsets(n_pool, count, share)


class Ridge:
    """Ridge regression on random data, whose every retraining is solved exactly."""

    def __init__(self):
        rng = np.random.default_rng(0)
        truth = rng.standard_normal(8)
        self.x, self.queries = rng.standard_normal((120, 8)), rng.standard_normal((30, 8))
        self.y = self.x @ truth + rng.standard_normal(120)
        self.answers = self.queries @ truth + 3 * rng.standard_normal(30)

    def losses(self, members):
        x, y = self.x[members], self.y[members]
        weights = np.linalg.solve(x.T @ x + 0.1 * np.eye(8), x.T @ y)
        return (self.queries @ weights - self.answers) ** 2 / 2

    def leave_one_out(self):
        """Loss without each example minus loss with it, (n_queries, n_pool), by Sherman-Morrison."""
        inverse = np.linalg.inv(self.x.T @ self.x + 0.1 * np.eye(8))
        weights = inverse @ self.x.T @ self.y
        leverage = np.einsum("id,de,ie->i", self.x, inverse, self.x)
        moves = -inverse @ self.x.T * ((self.y - self.x @ weights) / (1 - leverage))
        residuals = self.queries @ weights - self.answers
        return ((residuals[:, None] + self.queries @ moves) ** 2 - residuals[:, None] ** 2) / 2


def test_leave_one_out_of_the_toy_is_right():
    toy = Ridge()
    whole, without = toy.losses(np.arange(120)), toy.losses(np.delete(np.arange(120), 17))
    np.testing.assert_allclose(toy.leave_one_out()[:, 17], without - whole, rtol=1e-9)


def test_lds_of_exact_influence_is_high_and_of_noise_is_none():
    toy = Ridge()
    subsets = draw_subsets(120, 200, seed=0)
    losses = np.stack([toy.losses(members) for members in subsets])
    exact = lds(toy.leave_one_out(), subsets, losses)
    assert exact.shape == (30,)
    assert exact.mean() > 0.9
    np.testing.assert_allclose(lds(-toy.leave_one_out(), subsets, losses), -exact)
    noise = lds(np.random.default_rng(1).standard_normal((30, 120)), subsets, losses)
    assert abs(noise.mean()) < 0.06
    low, high = interval(exact)
    assert low < exact.mean() < high < 1
    assert 0 < high - low < 0.15


def test_lds_sums_over_subsets_of_any_size():
    subsets = [np.array([0]), np.array([0, 1]), np.array([0, 1, 2])]
    losses = np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    scores = np.array([[1.0, 1.0, 1.0], [5.0, 1.0, 0.5]], np.float32)
    np.testing.assert_allclose(lds(scores, subsets, losses), [1, -1])


def test_agreement_with_tiny_changes():
    scores = np.random.default_rng(0).standard_normal((3, 50))
    assert pooled_step_agreement(scores, 1e-12 * scores) == pytest.approx(1)
    assert pooled_step_agreement(scores, 0 * scores) == 0
    np.testing.assert_allclose(step_agreement(scores, -1e-12 * scores), -1)


def retrain(model, folder):
    decoder = Decoder.load(model, device="cpu", max_length=64)
    with claim(Path(folder), resume=True) as held:
        return retrained_losses(decoder, POOL, QUERIES, draw_subsets(12, 6), SETTINGS, held)


SLOW = """
import sys, time
import test_retraining
from influcoder.store.writer import StoreWriter

write = StoreWriter.write
StoreWriter.write = lambda *arguments: (write(*arguments), time.sleep(0.3))
print("started", flush=True)
test_retraining.retrain(sys.argv[1], sys.argv[2])
"""


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """(model folder, folder of an undisturbed run, its losses)."""
    folder = tmp_path_factory.mktemp("causal")
    model = save_decoder(folder / "model", tiny_tokenizer())
    return model, folder / "calm", retrain(model, folder / "calm")


def test_a_killed_run_is_resumed_to_the_same_bytes(calm, tmp_path):
    model, undisturbed, losses = calm
    killed = tmp_path / "killed"
    process = start(SLOW, model, killed)
    wait_for(killed / "shard-00001.parquet")
    assert kill(process)
    finished = contents(killed)
    assert "shard-00001.safetensors" in finished
    assert "manifest.json" not in finished
    np.testing.assert_array_equal(retrain(model, killed), losses)
    assert contents(killed) == contents(undisturbed)


def test_losses_come_from_the_retrained_models(calm):
    losses = calm[2]
    assert losses.shape == (6, len(QUERIES))
    decoder = Decoder.load(calm[0], device="cpu", max_length=64)
    members = draw_subsets(12, 6)[3]
    trained = causal.finetune(decoder, [POOL[place] for place in members], SETTINGS)
    expected = [float(oracles.loss(trained.model, one)) for one in trained.tokenise(QUERIES)]
    np.testing.assert_allclose(losses[3], expected, rtol=1e-5)
    assert (losses.std(axis=0) > 0).all()


def test_a_finished_run_is_read_and_not_made_again(calm, monkeypatch):
    monkeypatch.setattr(causal, "finetune", None)
    np.testing.assert_array_equal(retrain(*calm[:2]), calm[2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": dataclasses.replace(SETTINGS, seed=7)}, "settings.seed: 0 there, 7 now"),
        ({"subsets": draw_subsets(12, 6, seed=1)}, "subsets: '[0-9a-f]{64}' there, '[0-9a-f]{64}' now"),
        ({"pool": [*POOL[:-1], Example("p11", "other ", "text")]}, "made_by.data: "),
        ({"queries": QUERIES[:5]}, "dim: 6 there, 5 now"),
    ],
)
def test_another_plan_is_refused_with_both_values(calm, change, words):
    decoder = Decoder.load(calm[0], device="cpu", max_length=64)
    given = {"pool": POOL, "queries": QUERIES, "subsets": draw_subsets(12, 6), "settings": SETTINGS} | change
    with pytest.raises(StoreMismatch, match=words):
        retrained_losses(decoder, folder=calm[1], **given)


def test_a_changed_byte_is_found(calm, tmp_path):
    for name, data in contents(calm[1]).items():
        (tmp_path / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if name == "shard-00002.safetensors" else data)
    with pytest.raises(StoreCorrupt, match="shard-00002"):
        retrain(calm[0], tmp_path)
