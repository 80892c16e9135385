"""Memorised rows: which they are, that teachers give what tells them, and what is said of them."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

from helpers.sentences import sentences
from helpers.teacher_oracles import weight_gradients
from helpers.tiny import some_examples
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.store.output_folder import Folder
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.memorised import LOSS, NORM, memorised
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs.features import features


def test_both_a_small_loss_and_a_short_gradient_are_needed():
    losses = np.array([0.5 * LOSS, 0.5 * LOSS, 2 * LOSS, 1.0, 2.0])
    norms = np.array([0.5 * NORM, 2 * NORM, 0.5 * NORM, 1.0, 30.0])
    assert memorised(losses, norms).tolist() == [True, False, False, False, False]


def test_pool_that_is_memorised_nearly_whole():
    losses, norms = np.full(100, 0.01), np.full(100, 0.1)
    losses[:3], norms[:3] = 2.0, 1.0
    assert memorised(losses, norms).sum() == 97
    assert memorised(losses[3:], norms[3:]).all()


def test_row_without_a_gradient_is_not_memorised():
    assert memorised(np.zeros(2), np.array([0.0, 0.0])).tolist() == [False, False]


def test_norm_is_the_gradients_before_its_layers_are_scaled(decoder):
    settings = TeacherSettings.named("layer-cosine", source="weights", width=0, precision="fp32")
    expected = np.sqrt(
        sum(one.flatten(1).square().sum(dim=1).numpy() for one in weight_gradients(decoder, some_examples()).values())
    )
    for similarity in ("cosine", "dot"):
        found = GradientTeacher(decoder, replace(settings, similarity=similarity)).features(some_examples(), "pool")
        np.testing.assert_allclose(found.norms, expected, rtol=1e-3)


@pytest.mark.parametrize("name", ["gradient-cosine", "layer-cosine"])
def test_features_count_them_and_say_so(decoder, tmp_path, caplog, name):
    known = sentences(4, 1, "known")
    new = [replace(one, completion=f"something else: {number}") for number, one in enumerate(sentences(20, 2, "new"))]
    decoder = finetune(decoder, known, FinetuneSettings(epochs=60, learning_rate=1e-2))
    settings = TeacherSettings.named(name, rank=4, width=512, precision="fp32")
    features(decoder, sentences(20, 3, "q"), [*new, *known], Folder(tmp_path / "features"), settings)
    found = orjson.loads((tmp_path / "features" / "metrics.json").read_bytes())["memorised"]
    assert found == {"rows": 4, "of": 24, "loss_below": LOSS, "norm_below": NORM}
    assert "4 of 24 pool rows are memorised" in caplog.text
    assert "--checkpoints" in caplog.text
