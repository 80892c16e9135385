"""The teacher that takes the mean of the pool off: against its definition, and where there is no gradient."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.teacher_oracles import facts
from helpers.tiny import tiny_decoder
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings

SETTINGS = TeacherSettings.named("centred-cosine", rank=4, width=256, precision="fp32")
ROWS = facts(20)


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny_decoder("llama", tokenizer)


@pytest.fixture(scope="module")
def features(model):
    """(what layer-cosine gives, what the centred teacher gives after learning from the first twelve rows)."""
    plain = GradientTeacher(model, replace(SETTINGS, centred=False))
    teacher = GradientTeacher(model, SETTINGS)
    teacher.fit(ROWS[:12], ROWS[12:])
    return plain.features(ROWS, "pool").vectors, teacher.features(ROWS, "query").vectors, teacher


def test_it_compares_how_rows_differ_from_their_mean(features):
    plain, centred, _ = features
    # Layers are of unit length each, so the features before the mean is taken off are unit vectors times one number.
    expected = plain - plain[:12].mean(axis=0)
    np.testing.assert_allclose(centred, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_what_is_common_to_all_rows_ranks_none(features):
    plain, centred, _ = features
    before, after = (abs(vectors[12:] @ vectors[:12].T).mean(axis=1) for vectors in (plain, centred))
    main = [abs((vectors[12:] @ vectors[:12].T).mean()) for vectors in (plain, centred)]
    assert main[1] < 0.3 * main[0]
    assert after.mean() < before.mean()


def test_a_row_without_a_gradient_stays_without(features):
    _, _, teacher = features
    found = teacher.features([ROWS[0], Example("none", "", "")], "pool")
    assert found.columns["no_gradient"] == [False, True]
    assert found.vectors.any(axis=1).tolist() == [True, False]


def test_low_rank_rows_cannot_be_centred():
    with pytest.raises(ConfigError, match="code_rank takes layers' matrices as they are"):
        TeacherSettings.named("lorif", centred=True)


def test_a_folder_that_does_not_say_it_is_not_centred():
    assert "centred" not in replace(SETTINGS, centred=False).record(bf16=False).settings
    assert TeacherSettings.read(SETTINGS.record(bf16=False)).centred
