import json
import os
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

from helpers.folders import contents
from helpers.processes import kill, start, wait_for
from helpers.tiny import save_decoder, some_examples, tiny_decoder, tiny_tokenizer
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError, StoreCorrupt, StoreMismatch
from influcoder.evaluation.proof import FineTuning, Outcome, is_same_answer, prove, summarise
from influcoder.evaluation.retraining import losses_of
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.store.output_folder import claim

SETTINGS = FinetuneSettings(epochs=1, learning_rate=5e-3, rows_a_step=4, precision="fp32")
POOL = [Example(f"p{n}", f"{n} plus {n % 3} ", f"is {n % 5}, four and {['Paris', 'Rome'][n % 2]}") for n in range(12)]
QUERIES = some_examples()
REMOVALS = {"found": [[0, 2, 4], [0, 2, 4]], "random": [[1, 3, 5], [7, 8, 9]]}
SEEDS = (0, 1)


@pytest.fixture
def trainer(decoder):
    return FineTuning(decoder, POOL, SETTINGS)


def same(one, other):
    np.testing.assert_array_equal(one.losses, other.losses)
    assert one.answers == other.answers


def test_models_are_trained_without_what_is_removed(trainer, tmp_path):
    proof = prove(trainer, QUERIES, REMOVALS, tmp_path, seeds=SEEDS)
    assert list(proof) == ["all", "found", "random"]
    for condition, outcomes in proof.items():
        for place, seed in enumerate(SEEDS):
            removed = REMOVALS.get(condition, [[], []])[place]
            model = finetune(trainer.decoder, POOL, replace(SETTINGS, seed=seed), leave_out=removed)
            same(outcomes[place], Outcome(losses_of(model, QUERIES), [model.answer(query) for query in QUERIES]))
    assert len({one.losses.tobytes() for outcomes in proof.values() for one in outcomes}) == 6


def test_rows_that_taught_a_completion_are_missed(trainer, tmp_path):
    """The question of a row, asked again: without that row and its like its loss is higher than without others."""
    taught = [Example("t", "Who sang it? ", "Madrid seven Rome")] * 4
    pool = [*(replace(one, id=f"t{n}") for n, one in enumerate(taught)), *POOL]
    lessons = FineTuning(trainer.decoder, pool, replace(SETTINGS, epochs=4))
    proof = prove(lessons, taught[:1], {"found": [[0, 1, 2, 3]], "random": [[4, 5, 6, 7]]}, tmp_path)
    found = summarise(proof)
    assert found["found"]["loss_change"] > 0.5
    assert found["found"]["loss_change"] > 5 * abs(found["random"]["loss_change"])
    assert found["found"]["changed_interval"] is None  # of one query


def test_trainings_beside_each_other_give_what_one_after_the_other_gives(trainer, tmp_path, monkeypatch):
    meeting, train, usual = Barrier(2, timeout=60), FineTuning.train, torch.get_num_threads()

    def train_together(self, *args):
        meeting.wait()  # fails unless two are at it
        return train(self, *args)

    torch.set_num_threads(1)
    try:
        alone = prove(trainer, QUERIES, REMOVALS, tmp_path / "a", seeds=SEEDS)
        monkeypatch.setattr(FineTuning, "train", train_together)
        together = prove(trainer, QUERIES, REMOVALS, tmp_path / "b", seeds=SEEDS, at_once=2)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(usual)
    assert list(together) == list(alone)
    for condition, outcomes in together.items():
        for one, other in zip(outcomes, alone[condition], strict=True):
            same(one, other)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_is_there_is_not_trained_again_and_more_may_be_added(trainer, tmp_path, monkeypatch):
    first = prove(trainer, QUERIES, {"found": [[0, 2, 4]]}, tmp_path)
    told = []
    more = prove(trainer, QUERIES, REMOVALS, tmp_path, seeds=SEEDS, announce=told.append)
    assert told == [4]
    same(more["found"][0], first["found"][0])
    monkeypatch.setattr(FineTuning, "train", None)
    for condition, outcomes in prove(trainer, QUERIES, REMOVALS, tmp_path, seeds=SEEDS).items():
        for one, other in zip(outcomes, more[condition], strict=True):
            same(one, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda trainer: replace(trainer, settings=replace(SETTINGS, epochs=2)), "training.epochs: 1 there, 2 now"),
        (lambda trainer: replace(trainer, pool=POOL[:-1]), "data: "),
        (lambda trainer: replace(trainer, decoder=tiny_decoder("llama", trainer.decoder.tokenizer, seed=1)), "decoder"),
    ],
)
def test_another_training_is_refused(trainer, tmp_path, change, words):
    prove(trainer, QUERIES, {}, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(StoreMismatch, match=words):
        prove(change(trainer), QUERIES, REMOVALS, tmp_path, seeds=SEEDS)
    assert contents(tmp_path) == before


def test_other_queries_and_other_removals_are_refused(trainer, tmp_path):
    prove(trainer, QUERIES, {"found": [[1]]}, tmp_path)
    with pytest.raises(StoreMismatch, match="queries: "):
        prove(trainer, QUERIES[1:], {"found": [[1]]}, tmp_path)
    with pytest.raises(StoreMismatch, match=r"found-0\.json: this model was trained without other rows"):
        prove(trainer, QUERIES, {"found": [[2]]}, tmp_path)


def test_a_damaged_outcome_is_refused(trainer, tmp_path):
    prove(trainer, QUERIES, {}, tmp_path)
    path = tmp_path / "trainings/all-0.json"
    path.write_text(path.read_text().replace('"losses": [', '"losses": [1.0,'))
    with pytest.raises(StoreCorrupt, match=r"all-0\.json"):
        prove(trainer, QUERIES, {}, tmp_path)


@pytest.mark.parametrize("removals", [{"found": [list(range(12))]}, {"found": [[1], [2]]}])
def test_removals_that_cannot_be(trainer, tmp_path, removals):
    with pytest.raises(ConfigError, match="expected fewer than all, for each of 1 seeds"):
        prove(trainer, QUERIES, removals, tmp_path)


def test_a_loss_that_is_not_finite(trainer, tmp_path, monkeypatch):
    broken = finetune(trainer.decoder, POOL, SETTINGS)
    broken.model.get_output_embeddings().weight.data[:] = np.nan
    monkeypatch.setattr(FineTuning, "train", lambda *_: broken)
    for at_once in (1, 2):
        with pytest.raises(ModelError, match="all-0: the trained model's loss of a query is not finite"):
            prove(trainer, QUERIES, {}, tmp_path, at_once=at_once)


def outcome(losses, *answers):
    return Outcome(np.array(losses, np.float32), list(answers))


def test_numbers():
    proof = {
        "all": [outcome([1, 2, 3], "Paris", "Rome", "x"), outcome([1, 2, 5], "Paris", "Oslo", "x")],
        "found": [outcome([2, 2, 3], "paris ", "Bern", "y"), outcome([2, 2, 6], "Paris", "oslo", "z")],
    }
    found = summarise(proof)
    assert found["all"]["loss"] == pytest.approx(14 / 6)
    assert found["all"]["changed_by_seed"] == pytest.approx(1 / 3)
    assert found["found"]["loss_change"] == pytest.approx(0.5)
    assert found["found"]["changed"] == pytest.approx((0 + 0.5 + 1) / 3)
    low, high = found["found"]["changed_interval"]
    assert 0 <= low < 0.5 < high <= 1
    alone = summarise({name: outcomes[:1] for name, outcomes in proof.items()})
    assert alone["all"]["changed_by_seed"] is None
    json.dumps(found, allow_nan=False)


def test_same_answers():
    assert is_same_answer(" In\nPARIS. ", "in paris.")
    assert not is_same_answer("In Paris", "In Paris.")
    assert is_same_answer("", " ")


SLOW = """
import sys, time
import test_proof
from influcoder.evaluation import proof

write = proof._write
proof._write = lambda *arguments: (write(*arguments), time.sleep(0.3))
print("started", flush=True)
test_proof.prove_in(sys.argv[1], sys.argv[2])
"""


def prove_in(model, folder):
    decoder = Decoder.load(model, device="cpu", max_length=64)
    with claim(Path(folder), resume=True) as held:
        return prove(FineTuning(decoder, POOL, SETTINGS), QUERIES, REMOVALS, held, seeds=SEEDS)


def test_a_killed_proof_goes_on_to_the_same_bytes(tmp_path):
    model = save_decoder(tmp_path / "model", tiny_tokenizer())
    prove_in(model, tmp_path / "calm")
    process = start(SLOW, model, tmp_path / "killed")
    wait_for(tmp_path / "killed/trainings/found-0.json")
    assert kill(process)
    done = sorted(os.listdir(tmp_path / "killed/trainings"))
    assert "all-0.json" in done
    assert "random-1.json" not in done
    prove_in(model, tmp_path / "killed")
    assert contents(tmp_path / "killed", but=(".lock",)) == contents(tmp_path / "calm")
