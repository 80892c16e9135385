"""Real trainings of a tiny model, by TRL and by transformers: probed, refreshed, and drawn by influence."""

import copy

import numpy as np
import orjson
import pytest
from datasets import Dataset
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer

import influcoder
from helpers.sentences import as_rows, sentences
from helpers.tiny import save_decoder
from influcoder.errors import ConfigError
from influcoder.live.callback import InfluenceCallback
from influcoder.live.sampler import KeptRows
from influcoder.model.decoder import Decoder
from influcoder.student.encoder_folder import teacher_of_later

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
    before = copy.deepcopy(model.state_dict())
    kept = []
    callback.sampler.keep = lambda rows: kept.append(rows) or KeptRows.keep(callback.sampler, rows)
    callback.attach(trainer)
    trainer.train()

    assert any(not before[name].equal(weight) for name, weight in trainer.model.state_dict().items())
    (probe,) = callback.probes  # at step 4; the last step is probed no more
    assert (probe.step, probe.verdict, probe.refreshed) == (4, "stale", True)
    first, later = kept  # before the first step, and at step 4
    assert len(first) == len(later) == 48
    assert not np.array_equal(first, later)
    assert callback.sampler.kept is later
    told = orjson.loads((tmp_path / "live" / "probes.json").read_bytes())["probes"]
    assert told[0]["gradients"] == probe.gradients > 48 + len(QUERIES)
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
    assert set(drawn) <= set(callback.sampler.kept.tolist())  # at this rate both choices are the same


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
    with pytest.raises(ConfigError, match=r"keep is 1\.5"):
        InfluenceCallback(work / "encoder", work / "features", POOL, QUERIES, tmp_path, keep=1.5)
    with pytest.raises(ConfigError, match="'max' or 'mean'"):
        InfluenceCallback(work / "encoder", work / "features", POOL, QUERIES, tmp_path, over="sum")
    encoder = influcoder.InfluenceEncoder.load(work / "encoder")
    encoder.settings["tier"] = "short"
    with pytest.raises(ConfigError, match="short tier"):
        InfluenceCallback(encoder, work / "features", as_rows(POOL), QUERIES, tmp_path)


def test_without_probes_it_chooses_once(work, model, tokenizer, tmp_path):
    callback = InfluenceCallback(work / "encoder", work / "features", POOL, QUERIES, tmp_path / "live", every=None)
    rows = Dataset.from_list([{"prompt": one.prompt, "completion": one.completion} for one in POOL])
    settings = SFTConfig(output_dir=tmp_path / "run", **TRAINING | {"max_steps": 2})
    trainer = SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
    callback.attach(trainer)
    trainer.train()
    assert callback.probes == []
    assert len(callback.sampler.kept) == 48


def test_the_best_rows_by_the_gradients_of_the_queries_are_kept(work, callback, model, tokenizer):
    decoder = Decoder(model.requires_grad_(False), tokenizer, name="now", max_length=1024)
    teacher = teacher_of_later(callback.encoder, decoder)
    queries = callback.encoder.project_query(QUERIES, teacher.features(QUERIES, "query").vectors)
    rows = callback.encoder.encode_pool(POOL)
    influence = rows / np.linalg.norm(rows, axis=1, keepdims=True) @ queries.T
    standard = (influence - influence.mean(axis=0)) / influence.std(axis=0)

    callback.on_train_begin(None, TrainerState(), TrainerControl(), model=model, processing_class=tokenizer)
    assert callback.sampler.kept.tolist() == np.argsort(-standard.max(axis=1), kind="stable")[:48].tolist()
    callback.over, callback.keep = "mean", 1 / 240
    callback.on_train_begin(None, TrainerState(), TrainerControl(), model=model, processing_class=tokenizer)
    assert callback.sampler.kept.tolist() == [standard.mean(axis=1).argmax()]


def test_every_kept_row_comes_once_in_a_pass():
    sampler = KeptRows(10, seed=1)
    assert sorted(sampler) == list(range(10))
    sampler.keep(np.array([7, 2, 5, 3]))
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 10
    assert sorted(drawn[:4]) == sorted(drawn[4:8]) == [2, 3, 5, 7]
    assert len(set(drawn[8:])) == 2


def test_other_rows_are_drawn_at_once():
    sampler = KeptRows(4)
    rows = iter(sampler)
    next(rows)
    sampler.keep(np.array([3]))
    assert list(rows) == [3, 3, 3]


def test_rows_that_were_drawn_least_come_first_when_others_are_kept():
    sampler = KeptRows(6, seed=2)
    sampler.keep(np.array([0, 1, 2, 3]))
    rows = iter(sampler)
    drawn = [next(rows), next(rows)]
    sampler.keep(np.array([0, 1, 2, 4]))
    fresh = {0, 1, 2, 4} - set(drawn)
    later = [next(rows) for _ in range(4)]
    assert set(later[: len(fresh)]) == fresh
    assert set(later) == {0, 1, 2, 4}


def test_rows_that_are_not_there_are_refused():
    for rows in ([], [4], [-1]):
        with pytest.raises(ConfigError, match="expected some of the 4 rows"):
            KeptRows(4).keep(np.array(rows, int))
