"""Pool rows in the role of queries: who is asked, who stands, and where their features come from."""

import numpy as np
import pytest

from helpers.sentences import sentences
from helpers.tiny import save_decoder
from influcoder.errors import ConfigError, DataError
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.provenance import StudentRecord
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder
from influcoder.student.few_questions import FEW, split_with_pool_rows
from influcoder.student.sample import Sample, split_sample
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs.distill import distill
from influcoder.verbs.features import features

SETTINGS = {"rank": 4, "precision": "fp32"}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory, tokenizer):
    return Decoder.load(save_decoder(tmp_path_factory.mktemp("few") / "decoder", tokenizer), device="cpu")


def sample(queries, pool, width=5):
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(count, width)).astype(np.float32) for count in (queries, pool)]
    return Sample(sentences(queries, 1, "q"), sentences(pool, 2, "p"), *vectors)


def ids(examples):
    return [one.id for one in examples]


@pytest.mark.parametrize("count", [1, 3, 10])
def test_rows_that_are_asked_in_validation_do_not_stand_there(count):
    whole = sample(count, 60)
    train, validation = split_with_pool_rows(whole, (whole.pool, whole.pool_features), 0)
    assert ids(train.queries)[-51:] == ids(train.pool)
    real = ids(train.queries)[:-51] + [name for name in ids(validation.queries) if name[0] == "q"]
    assert sorted(real) == sorted(ids(whole.queries))
    asked = [name for name in ids(validation.queries) if name[0] == "p"]
    assert sorted([*asked, *ids(validation.pool), *ids(train.pool)]) == sorted(ids(whole.pool))
    features = dict(zip(ids(whole.pool), whole.pool_features, strict=True))
    for name, row in zip(ids(validation.queries), validation.query_features, strict=True):
        if name[0] == "p":
            np.testing.assert_array_equal(row, features[name])


def test_features_in_the_role_of_queries_are_those_given():
    whole = sample(2, 40)
    asked = whole.pool[::2], -whole.pool_features[::2]
    train, _ = split_with_pool_rows(whole, asked, 0)
    given = dict(zip(ids(asked[0]), asked[1], strict=True))
    taken = [name for name in ids(train.queries) if name[0] == "p"]
    assert taken == [name for name in ids(train.pool) if name in given]
    np.testing.assert_array_equal(train.query_features[-len(taken) :], [given[name] for name in taken])


def test_too_few_pool_rows_and_seeds_out_of_range():
    whole = sample(1, 7)
    with pytest.raises(DataError, match="7 pool rows; distilling needs at least 8"):
        split_with_pool_rows(whole, (whole.pool, whole.pool_features), 0)
    with pytest.raises(ConfigError, match="seed is -1"):
        split_with_pool_rows(whole, (whole.pool, whole.pool_features), -1)


@pytest.fixture(scope="module")
def one_question(decoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    settings = TeacherSettings.named("layer-cosine", width=512, **SETTINGS)
    features(decoder, sentences(1, 1, "q"), sentences(80, 2, "p"), Folder(folder / "features"), settings)
    metrics = distill(folder / "features", Folder(folder / "encoder"))
    return folder, metrics


def test_one_question_is_enough(one_question, decoder):
    folder, metrics = one_question
    assert metrics["splits"]["pool_as_queries"] == 80
    encoder = InfluenceEncoder.load(folder / "encoder")
    assert encoder.provenance.student == StudentRecord("static", 0, pool_as_queries=80)
    made = FeaturesFolder(folder / "features")
    asked, rows = sentences(6, 5, "new"), sentences(40, 6, "row")
    teacher = made.teacher(decoder)
    exact = teacher.features(asked, "query").vectors
    truth = exact @ teacher.features(rows, "pool").vectors.T
    scores = encoder.project_query(asked, exact) @ encoder.encode_pool(rows).T
    assert spearman_rows(truth, scores).mean() > 0.3


def test_many_queries_are_enough_by_themselves(decoder, tmp_path):
    settings = TeacherSettings.named("layer-cosine", width=512, **SETTINGS)
    features(decoder, sentences(FEW, 1, "q"), sentences(30, 2, "p"), Folder(tmp_path / "features"), settings)
    made = FeaturesFolder(tmp_path / "features")
    assert made.asked is None
    assert ids(made.split(3)[0].queries) == ids(split_sample(made.sample, 3)[0].queries)


@pytest.mark.parametrize("name", ["lorif", "trak"])
def test_where_the_roles_differ_rows_are_asked_with_features_of_their_own(decoder, tmp_path, name):
    changes = SETTINGS | ({"width": 512} if name == "trak" else {})
    settings = TeacherSettings.named(name, fit_examples=32, **changes)
    features(decoder, sentences(2, 1, "q"), sentences(40, 2, "p"), Folder(tmp_path / "features"), settings)
    made = FeaturesFolder(tmp_path / "features")
    examples, vectors = made.asked
    teacher = made.teacher(decoder)
    expected = teacher.features(examples, "query").vectors
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    assert not np.allclose(vectors, made.sample.pool_features, rtol=1e-4)
    assert distill(tmp_path / "features", Folder(tmp_path / "encoder"))["splits"]["questions"] == 2


def test_folder_without_them_refuses_few_queries(decoder, tmp_path, monkeypatch):
    monkeypatch.setattr("influcoder.verbs.features.FEW", 0)
    settings = TeacherSettings.named("lorif", fit_examples=32, **SETTINGS)
    features(decoder, sentences(2, 1, "q"), sentences(40, 2, "p"), Folder(tmp_path / "features"), settings)
    with pytest.raises(DataError, match="2 examples on one side"):
        distill(tmp_path / "features", Folder(tmp_path / "encoder"))
