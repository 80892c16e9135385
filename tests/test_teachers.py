from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import some_examples, tiny_decoder

from influcoder.errors import ConfigError, ModelError, StoreMismatch
from influcoder.examples import Example
from influcoder.gradients import make_batches
from influcoder.store import Store
from influcoder.teachers import GradientTeacher, TeacherSettings, data_fingerprint

SETTINGS = TeacherSettings(rank=8, width=2048, seed=0, precision="fp32", token_budget=60)


@pytest.fixture
def teacher(decoder):
    return GradientTeacher(decoder, SETTINGS)


def exact_gradients(teacher, examples):
    parts = [torch.zeros(len(examples), length) for length in teacher._gradients.lengths]
    for batch in make_batches(teacher.decoder.tokenise(examples), 1000, torch.device("cpu")):

        def receive(layer, part, places=batch.places):
            parts[layer][places] += part

        teacher._gradients.run(batch, receive)
    return torch.cat(parts, dim=1)


def off_diagonal(vectors):
    products = vectors @ vectors.T
    return products[np.triu_indices(len(vectors), 1)]


def test_features_are_unit_rows_of_the_width(teacher):
    found = teacher.features(some_examples())
    assert found.vectors.shape == (len(some_examples()), SETTINGS.width)
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    assert (found.norms > 0).all()


def test_order_follows_the_input(teacher):
    examples = some_examples()
    found, backwards = teacher.features(examples), teacher.features(examples[::-1])
    np.testing.assert_allclose(backwards.vectors[::-1], found.vectors, atol=1e-5)
    np.testing.assert_allclose(backwards.losses[::-1], found.losses, rtol=1e-5)
    assert backwards.columns["tokens"][::-1] == found.columns["tokens"]


def test_token_budget_changes_nothing(decoder):
    one = GradientTeacher(decoder, SETTINGS).features(some_examples())
    other = GradientTeacher(decoder, replace(SETTINGS, token_budget=1)).features(some_examples())
    np.testing.assert_allclose(one.vectors, other.vectors, atol=1e-5)


def test_same_settings_same_numbers(tokenizer):
    one, other = (GradientTeacher(tiny_decoder("llama", tokenizer), SETTINGS) for _ in range(2))
    np.testing.assert_array_equal(one.features(some_examples()).vectors, other.features(some_examples()).vectors)
    assert one.made_by == other.made_by


def test_another_seed_gives_other_features_that_agree(decoder):
    examples = [
        Example(str(number), f"The capital of {place} is ", name)
        for number, (place, name) in enumerate(
            [
                ("France", "Paris"),
                ("Italy", "Rome"),
                ("Spain", "Madrid"),
                ("France", "Rome"),
                ("Italy", "Paris"),
                ("x", "7"),
            ]
        )
    ]
    examples += some_examples()
    wide = replace(SETTINGS, rank=16, width=8192)
    one = GradientTeacher(decoder, wide).features(examples).vectors
    other = GradientTeacher(decoder, replace(wide, seed=1)).features(examples).vectors
    assert not np.allclose(one, other, atol=1e-3)
    assert np.corrcoef(off_diagonal(one), off_diagonal(other))[0, 1] > 0.9


def test_products_are_near_the_exact_cosines(decoder):
    teacher = GradientTeacher(decoder, replace(SETTINGS, width=16384))
    examples = some_examples()
    exact = exact_gradients(teacher, examples)
    cosines = torch.nn.functional.normalize(exact, dim=1).numpy()
    found = teacher.features(examples)
    deviations = off_diagonal(found.vectors) - off_diagonal(cosines)
    assert np.abs(deviations).max() <= 5 * (2 / 16384) ** 0.5
    np.testing.assert_allclose(found.norms, exact.norm(dim=1).numpy(), rtol=0.1)


def test_columns_tell_about_each_example(decoder):
    decoder.max_length = 20
    examples = [*some_examples(), Example("long", "", "Hello world, " * 30)]
    found = GradientTeacher(decoder, SETTINGS).features(examples)
    tokens = decoder.tokenise(examples)
    assert found.columns["tokens"] == [len(one.ids) for one in tokens]
    assert found.columns["completion_tokens"] == [one.targets for one in tokens]
    assert found.columns["prompt_cut"] == [one.prompt_cut for one in tokens]
    assert found.columns["completion_cut"][-1] is True
    assert found.columns["no_gradient"] == [False] * len(examples)


def test_advance_is_told_of_every_example(teacher):
    steps = []
    teacher.features(some_examples(), steps.append)
    assert sum(steps) == len(some_examples())


def test_gradient_that_is_not_finite_names_the_example(teacher):
    teacher.decoder.model.model.norm.weight.data[:] = float("nan")
    with pytest.raises(ModelError, match="'e0' is not finite"):
        teacher.features(some_examples())


@pytest.mark.parametrize("name", ["rank", "width", "token_budget"])
def test_settings_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        TeacherSettings(**{name: 0})


def test_made_by_holds_what_changes_the_numbers(teacher):
    made_by = teacher.made_by
    assert made_by["teacher"] == "gradient-cosine"
    assert (made_by["rank"], made_by["width"], made_by["seed"]) == (8, 2048, 0)
    assert made_by["precision"] == "fp32"
    assert made_by["decoder"] == teacher.decoder.fingerprint["decoder"]
    assert made_by["tokenizer"] == teacher.decoder.fingerprint["tokenizer"]


@pytest.mark.parametrize("precision", ["fp16", "", None])
def test_unknown_precision_is_refused(precision):
    with pytest.raises(ConfigError, match=r"precision is .* expected one of auto, bf16, fp32"):
        TeacherSettings(precision=precision)


def test_data_fingerprint_reads_what_the_store_keeps():
    examples = some_examples()
    base = data_fingerprint(examples)
    assert data_fingerprint([replace(one) for one in examples]) == base
    assert data_fingerprint(examples[::-1]) != base
    changes = [{"id": "z"}, {"prompt": "z"}, {"completion": "z"}, {"turns": (("user", "z"),)}, {"metadata": {"x": 1}}]
    for change in changes:
        assert data_fingerprint([replace(examples[0], **change), *examples[1:]]) != base


def many_examples(count):
    words = ["Paris", "Rome", "Madrid", "seven", "four"]
    return [Example(f"m{number}", f"{number} ", words[number % 5]) for number in range(count)]


def test_written_store_holds_the_features(teacher, tmp_path):
    examples = many_examples(300)
    store = teacher.write(examples, tmp_path / "store")
    found = teacher.features(examples)
    assert store.ids == [one.id for one in examples]
    np.testing.assert_allclose(store.vectors(), found.vectors, atol=1e-3, rtol=2e-3)
    np.testing.assert_allclose(store.columns["norm"].to_numpy(), found.norms, rtol=1e-4)
    np.testing.assert_allclose(store.columns["loss"].to_numpy(), found.losses, rtol=1e-4)
    assert store.columns["tokens"].to_pylist() == found.columns["tokens"]
    assert store.manifest["made_by"]["decoder"] == teacher.decoder.fingerprint["decoder"]
    assert store.manifest["made_by"]["data"] == data_fingerprint(examples)
    assert store.manifest["dim"] == SETTINGS.width


def test_finished_store_is_not_computed_again(teacher, tmp_path, monkeypatch):
    teacher.write(some_examples(), tmp_path)
    monkeypatch.setattr(GradientTeacher, "features", None)
    assert len(teacher.write(some_examples(), tmp_path)) == len(Store(tmp_path))


def test_changed_metadata_is_not_resumed(teacher, tmp_path):
    teacher.write(some_examples(), tmp_path)
    with pytest.raises(StoreMismatch, match="data"):
        teacher.write([replace(one, metadata={"source": "x"}) for one in some_examples()], tmp_path)
