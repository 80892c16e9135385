"""Features on disk: shared by processes, killed and resumed, with rows that are not finite, at any scale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.folders import contents
from helpers.processes import kill, start, wait_for
from helpers.teacher_oracles import facts, influence, relative_error, trained_adapter
from helpers.tiny import save_decoder, some_examples, tiny_decoder, tiny_tokenizer
from influcoder.data.columns import data_fingerprint
from influcoder.data.examples import Example
from influcoder.errors import ModelError, StoreCorrupt, StoreMismatch
from influcoder.model.decoder import Decoder
from influcoder.runners.share import Share
from influcoder.store.output_folder import claim
from influcoder.store.store import Store
from influcoder.student.features_folder import read_features
from influcoder.teachers import write as writing
from influcoder.teachers.fitted import fitted, read_fitted
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.kronecker import FittedViews
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.write import write_features

SETTINGS = TeacherSettings(rank=8, width=1024, precision="fp32", token_budget=120)
PROCESS = """
import sys, time
import test_write as own
from influcoder.store.writer import StoreWriter

write, pause = StoreWriter.write, float(sys.argv[5])
StoreWriter.write = lambda *arguments: (write(*arguments), time.sleep(pause))
print("started", flush=True)
own.write_all(*sys.argv[1:3], own.Share(int(sys.argv[3]), int(sys.argv[4])))
"""


@pytest.fixture
def teacher(decoder):
    return GradientTeacher(decoder, SETTINGS)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(writing, "SHARD_ROWS", 4)


def many(count=300):
    words = ["Paris", "Rome", "Madrid", "seven", "four"]
    return [Example(f"m{number}", f"{number} ", words[number % 5]) for number in range(count)]


def test_store_holds_the_features(teacher, tmp_path):
    examples = many()
    store = write_features(teacher, examples, "pool", tmp_path / "store")
    found = teacher.features(examples, "pool")
    assert store.ids == [one.id for one in examples]
    np.testing.assert_allclose(store.vectors(), found.vectors, atol=1e-3, rtol=2e-3)
    np.testing.assert_allclose(store.columns["norm"].to_numpy(), found.norms, rtol=1e-4)
    np.testing.assert_allclose(store.columns["loss"].to_numpy(), found.losses, rtol=1e-4)
    np.testing.assert_allclose(store.columns["scale"].to_numpy(), 1, rtol=1e-4)
    assert store.columns["tokens"].to_pylist() == found.columns["tokens"]
    assert store.columns["rejected"].to_pylist() == [False] * len(examples)
    assert store.provenance.decoder == teacher.decoder.fingerprint
    assert store.provenance.data == data_fingerprint(examples)
    assert (store.manifest["dim"], store.manifest["dtype"]) == (SETTINGS.width, "float16")
    assert read_features(store)[0] == examples


def test_role_is_the_one_that_was_asked_for(decoder, tmp_path):
    teacher = make_teacher(decoder, TeacherSettings.named("trak", width=256, rank=4, precision="fp32", kept=4))
    teacher.fit(facts(), some_examples())
    for role in ("query", "pool"):
        rows = read_features(write_features(teacher, facts(), role, tmp_path / role))[1]
        assert relative_error(rows, teacher.features(facts(), role).vectors) < 2e-3


def test_finished_store_is_not_computed_again(teacher, tmp_path, monkeypatch):
    write_features(teacher, some_examples(), "pool", tmp_path)
    monkeypatch.setattr(GradientTeacher, "features", None)
    assert len(write_features(teacher, some_examples(), "pool", tmp_path)) == len(Store(tmp_path))


# Several processes, and kills


def write_all(model, folder, share=Share()):  # noqa: B008 - frozen
    """A teacher that learns, both its sides, as `influcoder features` writes them."""
    writing.SHARD_ROWS = 8
    settings = TeacherSettings.named("logra", rank=4, precision="fp32", fit_examples=32, token_budget=400)
    teacher = make_teacher(Decoder.load(model, device="cpu", max_length=64), settings)
    with claim(Path(folder), resume=True, share=share) as held:
        fitted(teacher, many(120), facts(12), held)
        for role, examples in (("query", facts(12)), ("pool", many(120))):
            write_features(teacher, examples, role, held / role, share=share)


def start_writing(model, folder, share=Share(), pause=0.0):  # noqa: B008 - frozen
    return start(PROCESS, model, folder, share.index, share.count, pause)


def whole(folder):
    return {part: contents(folder / part) for part in ("query", "pool")} | {
        "learnt": (folder / "teacher.safetensors").read_bytes()
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_decoder(tmp_path_factory.mktemp("model"), tiny_tokenizer())


@pytest.fixture(scope="module")
def calm(model, tmp_path_factory):
    """What one undisturbed process writes."""
    folder = tmp_path_factory.mktemp("calm")
    usual = writing.SHARD_ROWS
    write_all(model, folder)
    writing.SHARD_ROWS = usual
    return whole(folder)


def test_two_processes_at_once_write_what_one_does(model, calm, tmp_path):
    folder = tmp_path / "shared"
    processes = [start_writing(model, folder, Share(index, 2), pause=0.05) for index in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
    assert whole(folder) == calm
    assert len(Store(folder / "pool")) == 120


def test_a_share_alone_is_unfinished_business(model, tmp_path, monkeypatch):
    teacher = GradientTeacher(Decoder.load(model, device="cpu", max_length=64), SETTINGS)
    monkeypatch.setattr(writing, "SHARD_ROWS", 8)
    assert write_features(teacher, many(40), "pool", tmp_path, share=Share(1, 2)) is None
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == ["shard-00001.parquet", "shard-00003.parquet"]
    assert not (tmp_path / "manifest.json").exists()
    assert len(write_features(teacher, many(40), "pool", tmp_path, share=Share(0, 2))) == 40


def test_killed_and_resumed_to_the_same_bytes(model, calm, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_ROWS", 8)
    folder = tmp_path / "killed"
    process = start_writing(model, folder, pause=0.05)
    wait_for(folder / "pool" / "shard-00004.safetensors")
    assert kill(process)
    assert (folder / "pool" / "shard-00003.parquet").exists()
    assert not (folder / "pool" / "manifest.json").exists()
    write_all(model, folder)
    assert whole(folder) == calm


# What an earlier run made may not be mixed with


def other_decoder(decoder, tokenizer):
    return tiny_decoder("llama", tokenizer, seed=1)


def other_tokenizer(decoder, tokenizer):
    return Decoder(decoder.model, tiny_tokenizer(chat=True), name="tiny-llama", max_length=96)


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"name": "gradient-dot", "similarity": "dot"}, ["settings.similarity", "made_by.teacher.name"]),
        ({"width": 512}, ["dim", "settings.width"]),
        ({"seed": 1}, ["settings.seed"]),
        ({"rank": 4}, ["settings.rank"]),
        ({"precision": "bf16"}, ["settings.precision"]),
    ],
)
def test_other_settings_are_not_resumed(teacher, tmp_path, changes, keys):
    write_features(teacher, some_examples(), "pool", tmp_path)
    with pytest.raises(StoreMismatch) as caught:
        write_features(
            GradientTeacher(teacher.decoder, replace(SETTINGS, **changes)), some_examples(), "pool", tmp_path
        )
    for key in keys:
        assert f"{key}: " in str(caught.value)
    assert "made_by.decoder" not in str(caught.value)


@pytest.mark.parametrize(("make", "key"), [(other_decoder, "decoder"), (other_tokenizer, "tokenizer")])
def test_another_model_is_not_resumed(teacher, tokenizer, tmp_path, make, key):
    write_features(teacher, some_examples(), "pool", tmp_path)
    other = GradientTeacher(make(teacher.decoder, tokenizer), SETTINGS)
    with pytest.raises(StoreMismatch, match=rf"made_by\.decoder\.{key}: ") as caught:
        write_features(other, some_examples(), "pool", tmp_path)
    assert str(caught.value).count("made_by.") == 1


@pytest.mark.parametrize(
    "change", [{"metadata": {"source": "x"}}, {"prompt": "x"}, {"completion": "x"}, {"turns": (("user", "x"),)}]
)
def test_changed_data_are_not_resumed(teacher, tmp_path, change):
    write_features(teacher, some_examples(), "pool", tmp_path)
    with pytest.raises(StoreMismatch, match=r"made_by\.data: "):
        write_features(teacher, [replace(one, **change) for one in some_examples()], "pool", tmp_path)


def test_another_curvature_is_not_resumed(decoder, tmp_path):
    for number, pool in enumerate((facts(12), facts(8))):
        teacher = make_teacher(decoder, TeacherSettings.named("logra", rank=4, precision="fp32"))
        teacher.fit(pool, facts(4))
        if number:
            with pytest.raises(StoreMismatch, match=r"made_by\.teacher\.fitted: "):
                write_features(teacher, some_examples(), "pool", tmp_path)
        else:
            write_features(teacher, some_examples(), "pool", tmp_path)


def test_data_fingerprint_reads_what_the_store_keeps():
    examples = some_examples()
    base = data_fingerprint(examples)
    assert data_fingerprint([replace(one) for one in examples]) == base
    assert data_fingerprint(examples[::-1]) != base
    changes = [{"id": "z"}, {"prompt": "z"}, {"completion": "z"}, {"turns": (("user", "z"),)}, {"metadata": {"x": 1}}]
    for change in changes:
        assert data_fingerprint([replace(examples[0], **change), *examples[1:]]) != base


# What a teacher learnt


@pytest.fixture
def learner(decoder):
    return lambda **changes: make_teacher(decoder, TeacherSettings.named("logra", rank=4, precision="fp32", **changes))


def test_what_was_learnt_is_taken_from_the_earlier_run(learner, tmp_path, monkeypatch):
    first, second = learner(), learner()
    fitted(first, facts(), some_examples(), tmp_path)
    monkeypatch.setattr(GradientTeacher, "fit", None)
    fitted(second, facts(), some_examples(), tmp_path)
    assert second.provenance == first.provenance
    third = learner()
    third.load(read_fitted(tmp_path))
    np.testing.assert_array_equal(
        third.features(facts(), "query").vectors, first.features(facts(), "query").vectors, strict=True
    )


@pytest.mark.parametrize(
    ("changes", "pool", "queries", "key"),
    [
        ({"damping": 1.0}, facts(), some_examples(), r"teacher\.settings\.damping"),
        ({"seed": 1}, facts(), some_examples(), r"teacher\.settings\.seed"),
        ({}, facts(6), some_examples(), "data"),
        ({}, facts(), some_examples()[:2], "queries"),
    ],
)
def test_what_was_learnt_otherwise_is_refused(learner, tmp_path, changes, pool, queries, key):
    fitted(learner(), facts(), some_examples(), tmp_path)
    with pytest.raises(StoreMismatch, match=rf"teacher\.safetensors: cannot go on with what was learnt: {key}: "):
        fitted(learner(**changes), pool, queries, tmp_path)


def test_damaged_learning_is_refused(learner, tmp_path):
    fitted(learner(), facts(), some_examples(), tmp_path)
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreCorrupt, match=r"teacher\.safetensors: cannot be read"):
        fitted(learner(), facts(), some_examples(), tmp_path)


def test_teachers_that_learn_nothing_leave_nothing(teacher, tmp_path):
    fitted(teacher, facts(), some_examples(), tmp_path)
    assert not list(tmp_path.iterdir())
    assert read_fitted(tmp_path) == {}


# Rows that are not finite


@pytest.fixture
def touchy(decoder):
    """A teacher whose model does not bear "~"."""
    token = int(decoder.tokenise([Example("x", "~", "a")])[0].ids[0])
    decoder.model.model.embed_tokens.weight.data[token] = float("inf")
    return GradientTeacher(decoder, SETTINGS)


def with_bad(count, *bad):
    return [Example(f"m{n}", f"{n} ~ " if n in bad else f"{n} ", "Paris") for n in range(count)]


@pytest.mark.usefixtures("small_shards")
def test_rows_that_are_not_finite_are_flagged_and_left_out(touchy, tmp_path):
    examples = with_bad(12, 3, 7)
    store = write_features(touchy, examples, "pool", tmp_path, max_reject_rate=0.2)
    assert np.flatnonzero(store.columns["rejected"].to_numpy()).tolist() == [3, 7]
    assert len(store) == 12
    assert not store.vectors()[[3, 7]].any()
    kept, vectors = read_features(store)
    assert [one.id for one in kept] == [f"m{n}" for n in range(12) if n not in (3, 7)]
    good = touchy.features(kept, "pool").vectors
    assert relative_error(vectors, good) < 2e-3


@pytest.mark.usefixtures("small_shards")
def test_too_many_rows_that_are_not_finite_stop_the_job(touchy, tmp_path):
    with pytest.raises(ModelError, match=r"3 of 12 gradients are not finite, 'm3' among them: .*max-reject-rate 0.2"):
        write_features(touchy, with_bad(12, 3, 7, 9), "pool", tmp_path, max_reject_rate=0.2)
    assert not (tmp_path / "manifest.json").exists()
    assert (tmp_path / "shard-00000.safetensors").exists()


def test_one_in_a_hundred_is_borne_by_default(touchy, tmp_path):
    assert write_features(touchy, with_bad(100, 50), "pool", tmp_path / "one") is not None
    with pytest.raises(ModelError, match=r"2 of 100 gradients are not finite, 'm50'"):
        write_features(touchy, with_bad(100, 50, 60), "pool", tmp_path / "two")


@pytest.mark.usefixtures("small_shards")
def test_bad_rows_of_an_earlier_run_and_of_others_count(touchy, tmp_path):
    examples = with_bad(16, 1, 5, 9, 13)  # one a shard
    for index in range(3):
        share = Share(index, 4)
        assert write_features(touchy, examples, "pool", tmp_path, max_reject_rate=0.2, share=share) is None
    with pytest.raises(ModelError, match=r"4 of 16 gradients are not finite, 'm1' among them"):
        write_features(touchy, examples, "pool", tmp_path, max_reject_rate=0.2)
    assert not (tmp_path / "manifest.json").exists()


# Scale and code


@pytest.mark.parametrize("size", [1e-6, 1, 1e6])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_scale_is_kept_whatever_the_size_of_the_gradients(decoder, tmp_path, size, similarity):
    teacher = GradientTeacher(decoder, replace(SETTINGS, similarity=similarity))
    teacher._plain = FittedViews([replace(view, scale=view.scale * size) for view in teacher._plain.views])
    examples = [*many(20), *some_examples()]
    store = write_features(teacher, examples, "pool", tmp_path)
    found = teacher.features(examples, "pool")
    read = read_features(store)[1]
    for one, other in zip(read, found.vectors, strict=True):
        assert relative_error(one, other) < 1e-3
    np.testing.assert_allclose(np.linalg.norm(read, axis=1), np.linalg.norm(found.vectors, axis=1), rtol=1e-3)
    np.testing.assert_allclose(store.columns["norm"].to_numpy(), found.norms, rtol=1e-3)
    if similarity == "dot":
        np.testing.assert_allclose(store.columns["scale"].to_numpy(), found.norms, rtol=1e-3)
        assert read.max() > 1e3 or size < 1e6


@pytest.mark.parametrize("rank", [3, 20, 1000])  # narrower and wider than the layers
def test_lorifs_store_gives_its_products_to_half_precision(decoder, tmp_path, rank):
    settings = TeacherSettings.named("lorif", rank=rank, kept=8, precision="fp32", token_budget=120)
    teacher = make_teacher(decoder, settings)
    teacher.fit(facts(), some_examples())
    stores = {role: write_features(teacher, facts(), role, tmp_path / role) for role in ("query", "pool")}
    queries, pool = (read_features(stores[role])[1] for role in ("query", "pool"))
    assert relative_error(queries @ pool.T, influence(teacher, facts(), facts())) < 5e-3
    assert stores["pool"].manifest["code"]["rank"] == settings.code_rank
    assert "code" not in stores["query"].manifest
    size = {role: sum(path.stat().st_size for path in (tmp_path / role).glob("*.safetensors")) for role in stores}
    assert size["pool"] < size["query"]
    assert size["pool"] - len(facts()) * teacher.code.bytes < 200  # the header
    whole_rank = make_teacher(decoder, replace(settings, code_rank=0))
    whole_rank.load(teacher.state())
    rows = [one.features(facts(), "pool").vectors for one in (teacher, whole_rank)]
    assert relative_error(*rows) > 1e-3


def test_adapters_views_can_be_coded(tokenizer, tmp_path):
    base, adapter = trained_adapter(tmp_path, tokenizer)
    decoder = Decoder.load(base, adapter=adapter, device="cpu", max_length=96)
    settings = TeacherSettings(source="adapter", width=0, code_rank=1, similarity="dot", precision="fp32")
    teacher = make_teacher(decoder, settings)
    store = write_features(teacher, facts(), "pool", tmp_path / "store")
    assert relative_error(read_features(store)[1], teacher.features(facts(), "pool").vectors) < 2e-3
    assert torch.tensor(store.manifest["code"]["shapes"]).prod(dim=1).sum() == teacher.dim
