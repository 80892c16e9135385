"""A features folder as a sample: what is read, how it is split, what is remembered of it."""

import numpy as np
import pytest

from helpers.sentences import sentences
from influcoder.data.columns import to_columns
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError, StoreError, StoreMismatch
from influcoder.provenance import Provenance
from influcoder.store.codes import Plain
from influcoder.store.writer import StoreWriter
from influcoder.student.features_folder import FeaturesFolder
from influcoder.student.sample import Sample, refuse_trained_on, split_sample, write_training


def write_store(folder, examples, *, kind="features"):
    vectors = np.random.default_rng(len(examples)).normal(size=(len(examples), 5)).astype(np.float32)
    ids = [one.id for one in examples]
    writer = StoreWriter(folder, kind=kind, code=Plain(5, "float32"), ids=ids, provenance=Provenance(), shard_rows=16)
    for shard in writer.missing():
        rows = slice(shard.start, shard.stop)
        writer.write(shard, vectors[rows], to_columns(examples[rows]))
    writer.finish()
    return vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    write_store(folder / "queries", sentences(30, 1, "q"))
    write_store(folder / "pool", sentences(60, 2, "p"))
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    return FeaturesFolder(folder).sample


def test_sample_is_what_was_written(tmp_path):
    queries, pool = sentences(3, 1, "q"), sentences(20, 2, "p")
    vectors = write_store(tmp_path / "queries", queries), write_store(tmp_path / "pool", pool)
    sample = FeaturesFolder(tmp_path).sample
    assert (sample.queries, sample.pool) == (queries, pool)
    np.testing.assert_array_equal(sample.query_features, vectors[0])
    np.testing.assert_array_equal(sample.pool_features, vectors[1])


def test_another_kind_of_store_is_refused(tmp_path):
    for side in ("queries", "pool"):
        write_store(tmp_path / side, sentences(3, 1, side), kind="embeddings")
    with pytest.raises(StoreMismatch, match="a store of embeddings, expected features"):
        FeaturesFolder(tmp_path)


def test_missing_folder(tmp_path):
    with pytest.raises(StoreError, match="nowhere"):
        FeaturesFolder(tmp_path / "nowhere")


def sizes(sample):
    return len(sample.queries), len(sample.pool), len(sample.query_features), len(sample.pool_features)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_share_nothing_and_lose_nothing(whole, seed):
    kept, validation = split_sample(whole, seed)
    assert sizes(kept) == (26, 51, 26, 51)
    assert sizes(validation) == (4, 9, 4, 9)
    for side in ("queries", "pool"):
        ids = [[one.id for one in getattr(part, side)] for part in (kept, validation, whole)]
        assert sorted(ids[0] + ids[1]) == sorted(ids[2])
        assert not set(ids[0]) & set(ids[1])


def test_split_rows_keep_their_features(whole):
    rows = {one.id: row for one, row in zip(whole.pool, whole.pool_features, strict=True)}
    for part in split_sample(whole, 0):
        for example, row in zip(part.pool, part.pool_features, strict=True):
            np.testing.assert_array_equal(row, rows[example.id])


def test_splits_are_seeded(whole):
    one, same, other = (split_sample(whole, seed)[1].queries for seed in (0, 0, 1))
    assert one == same
    assert one != other


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_out_of_range(whole, seed):
    with pytest.raises(ConfigError, match="seed is"):
        split_sample(whole, seed)


def test_too_little_to_split():
    tiny = Sample(sentences(3, 0, "q"), sentences(9, 0, "p"), np.eye(3, 9), np.eye(9))
    with pytest.raises(DataError, match="3 examples on one side; distilling needs at least 4"):
        split_sample(tiny, 0)


def test_what_was_trained_on_is_refused_in_any_case_and_spacing(tmp_path, whole):
    write_training(tmp_path, whole)
    seen = whole.pool[5]
    loud = Example("new", f" {seen.prompt.upper()}", f"{seen.completion.upper()}\n")
    with pytest.raises(DataError, match=r"1 test examples were seen .* 'new' among them"):
        refuse_trained_on(tmp_path, Sample([], [loud], np.empty((0, 5)), np.empty((1, 5))))


def test_new_texts_are_let_through(tmp_path, whole):
    write_training(tmp_path, whole)
    new = Example("q0", "Something else entirely", "indeed")
    refuse_trained_on(tmp_path, Sample([new], [], np.empty((1, 5)), np.empty((0, 5))))


def test_encoder_that_remembers_nothing_is_refused(tmp_path, whole):
    with pytest.raises(DataError, match=r"training\.parquet: missing"):
        refuse_trained_on(tmp_path, whole)
