"""Real trainings of a tiny model, by TRL and by transformers: probed, refreshed, and drawn by influence."""

import copy

import numpy as np
import orjson
import pytest
from datasets import Dataset
from transformers import Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

import influcoder
from helpers.sentences import as_rows, sentences
from helpers.tiny import save_decoder
from influcoder.errors import ConfigError
from influcoder.live.callback import InfluenceCallback
from influcoder.live.sampler import FLOOR, WeightedRows, weights_of
from influcoder.model.decoder import Decoder

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")

QUERIES, POOL = sentences(120, 1, "q"), sentences(240, 2, "p")
TRAINING = {
    "per_device_train_batch_size": 4,
    "max_steps": 8,
    "learning_rate": 0.1,
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "bf16": False,
    "disable_tqdm": True,
}


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("live")
    decoder = save_decoder(folder / "decoder", tokenizer)
    # Half of both sides is left to the probes.
    influcoder.features(decoder, QUERIES[:80], POOL[:160], folder / "features", rank=4, width=512, precision="fp32")
    influcoder.distill(folder / "features", folder / "encoder")
    return folder


@pytest.fixture
def callback(work, tmp_path):
    return InfluenceCallback(work / "encoder", work / "features", POOL, QUERIES, tmp_path / "live", every=4, budget=160)


@pytest.fixture
def model(work):
    return Decoder.load(work / "decoder", device="cpu").model.requires_grad_(True)


def test_sft_trainer_draws_by_influence_and_keeps_the_encoder_true(work, callback, model, tokenizer, tmp_path):
    rows = Dataset.from_list([{"prompt": one.prompt, "completion": one.completion} for one in POOL])
    settings = SFTConfig(output_dir=tmp_path / "run", **TRAINING)
    trainer = SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
    before, weights = copy.deepcopy(model.state_dict()), callback.weights
    callback.attach(trainer)
    trainer.train()

    assert any(not before[name].equal(weight) for name, weight in trainer.model.state_dict().items())
    (probe,) = callback.probes  # at step 4; the last step is probed no more
    assert (probe.step, probe.verdict, probe.refreshed) == (4, "stale", True)
    assert not np.array_equal(weights, callback.weights)
    assert callback.sampler.weights is callback.weights
    told = orjson.loads((tmp_path / "live" / "probes.json").read_bytes())["probes"]
    assert told[0]["gradients"] == probe.gradients > 48
    assert callback.encoder.provenance.student.refreshed_from
    assert trainer.model.training
    assert all(weight.requires_grad for weight in trainer.model.parameters())


def test_trainer_of_transformers_leaves_a_true_encoder_alone(callback, model, tokenizer, tmp_path):
    def collate(rows):
        texts = [row["text"] for row in rows]
        ids = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")["input_ids"]
        return {"input_ids": ids, "labels": ids}

    tokenizer.pad_token = tokenizer.eos_token
    drawn = []
    rows = Dataset.from_list([{"text": one.prompt + one.completion, "place": place} for place, one in enumerate(POOL)])
    settings = TrainingArguments(tmp_path / "run", **TRAINING | {"learning_rate": 1e-9}, remove_unused_columns=False)
    trainer = Trainer(
        model,
        settings,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=lambda some: drawn.extend(row["place"] for row in some) or collate(some),
    )
    callback.tolerance = 0.8
    callback.attach(trainer)
    trainer.train()
    assert [one.refreshed for one in callback.probes] == [False]
    assert callback.probes[0].verdict == "fine"
    assert len(drawn) >= 32
    assert np.mean(callback.weights[drawn]) > 1 / len(POOL)  # rows of more weight come more often


def test_rows_that_are_not_the_pools_are_refused(callback, model, tokenizer, tmp_path):
    rows = Dataset.from_list([{"prompt": one.prompt, "completion": one.completion} for one in POOL[:9]])
    settings = SFTConfig(output_dir=tmp_path / "run", **TRAINING)
    with pytest.raises(ConfigError, match="9 rows, the pool has 240"):
        callback.attach(SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer))
    settings.packing = True
    with pytest.raises(ConfigError, match="packing=False"):
        callback.attach(SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer))


def test_settings_that_do_not_fit_are_refused(work, tmp_path):
    with pytest.raises(ConfigError, match="every is 0"):
        InfluenceCallback(work / "encoder", work / "features", POOL, QUERIES, tmp_path, every=0)
    with pytest.raises(ConfigError, match="'max' or 'mean'"):
        InfluenceCallback(work / "encoder", work / "features", POOL, QUERIES, tmp_path, over="sum")
    encoder = influcoder.InfluenceEncoder.load(work / "encoder")
    encoder.settings["tier"] = "short"
    with pytest.raises(ConfigError, match="short tier"):
        InfluenceCallback(encoder, work / "features", as_rows(POOL), QUERIES, tmp_path)


def test_rows_are_drawn_as_often_as_they_weigh():
    sampler = WeightedRows(3, seed=1)
    sampler.set(np.array([0.7, 0.2, 0.1]))
    drawn = np.bincount([row for _ in range(2000) for row in sampler], minlength=3) / 6000
    assert np.allclose(drawn, sampler.weights, atol=0.02)
    with pytest.raises(ConfigError, match="2 weights were given for 3 rows"):
        sampler.set(np.ones(2))


def test_new_weights_count_at_once():
    sampler = WeightedRows(4)
    rows = iter(sampler)
    next(rows)
    sampler.set(np.array([0.0, 0.0, 0.0, 1.0]))
    assert list(rows) == [3, 3, 3]


def test_weights_go_by_scores_and_leave_no_row_out():
    scores = np.array([3.0, 1.0, 2.0, 2.0])
    weights = weights_of(scores, 1.0)
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > weights[2] == weights[3] > weights[1] > FLOOR / 4
    assert np.allclose(weights_of(scores, 0.0), 0.25)
    assert np.allclose(weights_of(np.ones(5), 2.0), 0.2)  # where all score alike
