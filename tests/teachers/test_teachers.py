"""Every named teacher, on tiny models: what all of them promise, and what the plain gradient ones compute."""

import copy
from dataclasses import asdict, dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.teacher_oracles import (
    adapter_gradients,
    facts,
    flat,
    influence,
    linear_weights,
    mean_margin,
    relative_error,
    trained_adapter,
    trained_checkpoints,
    weight_gradients,
)
from helpers.tiny import some_examples, tiny_decoder
from influcoder.attribution.search import search
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError
from influcoder.model.decoder import Decoder
from influcoder.model.layers import lora_b, two_sided
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TEACHERS, TeacherSettings
from influcoder.teachers.teacher import Features

SETTINGS = TeacherSettings(rank=8, width=2048, seed=0, precision="fp32", token_budget=60)
WHOLE = replace(SETTINGS, source="weights", width=0, similarity="dot")
FAMILIES = ("llama", "gpt2")
ROLES = ("query", "pool")
ONE_FAMILY = pytest.mark.parametrize("world", FAMILIES[:1], indirect=True)  # where how a model is built has no part


def named(name, **changes):
    """A named teacher's settings, small."""
    usual = TeacherSettings.named(name)
    small = {"rank": 4, "precision": "fp32", "token_budget": 60, "kept": 3 if usual.code_rank else 5}
    return TeacherSettings.named(name, **small | ({"width": 512} if usual.width else {}) | changes)


FITTED = [name for name in TEACHERS if TeacherSettings.named(name).learns]


@dataclass
class World:
    """One decoder, two checkpoints of its training, and a trained adapter."""

    decoder: Decoder
    checkpoints: list[Checkpoint]
    base: object
    adapter: object
    made: dict[object, object] = field(default_factory=dict)

    def teacher(self, name, **changes):
        settings = named(name, **changes)
        if settings.source == "adapter":
            return make_teacher(Decoder.load(self.base, adapter=self.adapter, device="cpu", max_length=96), settings)
        checkpoints = self.checkpoints if settings.adam or name == "tracin" else ()
        return make_teacher(self.decoder, settings, checkpoints=checkpoints)

    def ready(self, name, **changes):
        teacher = self.teacher(name, **changes)
        teacher.fit(POOL, QUERIES)
        return teacher

    def shared(self, name):
        """A teacher that is ready, which no test changes."""
        return self._once(name, lambda: self.ready(name))

    def found(self, name, role):
        """That teacher's features of the queries."""
        return self._once((name, role), lambda: self.shared(name).features(QUERIES, role))

    def _once(self, key, make):
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]


POOL, QUERIES = facts(12), some_examples()


@pytest.fixture(scope="module", params=FAMILIES)
def world(request, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    decoder = tiny_decoder(request.param, tokenizer)
    paths = trained_checkpoints(folder, decoder)
    base, adapter = trained_adapter(folder, tokenizer, request.param)
    return World(decoder, Checkpoint.read(paths, max_length=96), base, adapter)


@pytest.mark.parametrize("name", TEACHERS)
def test_what_every_teacher_promises(world, name):
    teacher = world.shared(name)
    for role in ROLES:
        found = world.found(name, role)
        assert found.vectors.shape == (len(QUERIES), teacher.dim)
        assert found.vectors.dtype == np.float32
        assert np.isfinite(found.vectors).all()
        assert np.linalg.norm(found.vectors, axis=1).all()
        assert (found.norms > 0).all()
        assert (found.losses > 0).all()
        assert not found.rejected.any()
        assert found.columns["no_gradient"] == [False] * len(QUERIES)
        np.testing.assert_array_equal(teacher.features(QUERIES, role).vectors, found.vectors)
        if teacher.settings.similarity == "cosine":
            np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    assert teacher.needs_fitting == (name in FITTED)
    assert teacher.provenance.teacher.name == name
    assert teacher.provenance.decoder == teacher.decoder.fingerprint


@pytest.mark.parametrize("name", TEACHERS)
def test_roles_differ_only_where_they_should(world, name):
    one, other = (world.found(name, role).vectors for role in ROLES)
    if name in ("less", "trak", "lorif"):
        assert relative_error(one, other) > 1e-3
    else:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", TEACHERS)
def test_token_budget_changes_nothing(world, name):
    alone = world.teacher(name, token_budget=1)
    alone.load(world.shared(name).state())
    for role in ROLES:
        assert relative_error(alone.features(QUERIES, role).vectors, world.found(name, role).vectors) < 1e-3


SAMPLED = ("ekfac", "kfac", "kfac-cosine")  # which draw tokens batch by batch


@pytest.mark.parametrize("name", [name for name in FITTED if name not in SAMPLED])
def test_token_budget_changes_nothing_that_is_learnt(world, name):
    teachers = world.shared(name), world.ready(name, token_budget=1)
    usual, alone = (influence(teacher, QUERIES, POOL) for teacher in teachers)
    assert relative_error(alone, usual) < 2e-2


@pytest.mark.parametrize("name", FITTED)
def test_state_gives_the_same_features_bit_for_bit(world, name):
    teacher, other = world.shared(name), world.teacher(name)
    other.load(teacher.state())
    assert other.dim == teacher.dim
    assert other.provenance == teacher.provenance
    for role in ROLES:
        np.testing.assert_array_equal(
            other.features(QUERIES, role).vectors, world.found(name, role).vectors, strict=True
        )


@ONE_FAMILY
@pytest.mark.parametrize("name", FITTED)
def test_fitting_is_seeded(world, name):
    one, other, another = (world.teacher(name, fit_examples=6, seed=seed) for seed in (0, 0, 1))
    for teacher in (one, other, another):
        teacher.fit(POOL, QUERIES)
    assert one.provenance == other.provenance
    assert one.provenance.differences(another.provenance)[0].startswith("teacher.fitted")
    np.testing.assert_array_equal(one.features(QUERIES, "query").vectors, other.features(QUERIES, "query").vectors)


@ONE_FAMILY
@pytest.mark.parametrize("name", FITTED)
def test_fitting_again_forgets_the_first_time(world, name):
    teacher, fresh = world.ready(name), world.teacher(name)
    for one in (teacher, fresh):
        one.fit(POOL[::-1][:8], QUERIES[:5])
    assert teacher.provenance == fresh.provenance


@pytest.mark.parametrize("name", FITTED)
def test_not_fitted_is_refused(world, name):
    with pytest.raises(ModelError, match=f"{name} learns from a sample first"):
        world.teacher(name).features(QUERIES, "query")


def test_curvature_of_another_size_is_refused(world):
    teacher = world.ready("logra", width=256, source="lora-b")
    for state in (teacher.state(), {}):
        with pytest.raises(ModelError, match=r"the curvature is one of (256|0) numbers, rrinf has 512"):
            world.teacher("rrinf").load(state)


@pytest.mark.parametrize("name", [*FITTED, "logra-raw", "forward", "repsim", "rds+"])
def test_checkpoints_are_refused_by_teachers_of_one_model(world, name):
    with pytest.raises(ConfigError, match="takes one model, 2 checkpoints were given"):
        make_teacher(world.decoder, named(name), checkpoints=world.checkpoints)


def test_less_without_checkpoints_is_refused(decoder):
    with pytest.raises(ConfigError, match="less divides by Adam's moments"):
        make_teacher(decoder, named("less"))


# What the plain ones compute


def test_raw_features_are_autograds_gradients(world):
    teacher = GradientTeacher(world.decoder, WHOLE)
    expected = flat(weight_gradients(world.decoder, QUERIES))
    assert relative_error(teacher.features(QUERIES, "query").vectors, expected) < 1e-4


def test_views_are_explicit_products(world):
    gradients = weight_gradients(world.decoder, QUERIES)
    for source, views in (("lora-b", lora_b), ("two-sided", two_sided)):
        teacher = GradientTeacher(world.decoder, replace(WHOLE, source=source, rank=3))
        parts = []
        for view in views(world.decoder, rank=3, seed=0):
            product = view.right.double() @ gradients[view.name] * view.scale
            parts.append((product if view.left is None else product @ view.left.double().T).flatten(1))
        assert relative_error(teacher.features(QUERIES, "pool").vectors, torch.cat(parts, dim=1)) < 1e-4


def test_adapter_teacher_takes_the_trained_adapters_gradients(world):
    decoder = Decoder.load(world.base, adapter=world.adapter, device="cpu", max_length=96)
    teacher = GradientTeacher(decoder, replace(WHOLE, source="adapter"))
    expected = adapter_gradients(world.base, world.adapter, decoder, QUERIES)
    assert list(expected) == [view.name for view in teacher._plain.views]
    assert relative_error(teacher.features(QUERIES, "query").vectors, flat(expected)) < 1e-4


def test_margin_is_the_log_odds(world):
    teacher = GradientTeacher(world.decoder, replace(WHOLE, margin=True))
    expected = flat(weight_gradients(world.decoder, QUERIES, mean_margin))
    found = teacher.features(QUERIES, "query")
    assert relative_error(found.vectors, expected) < 1e-4
    unknown = 1 - torch.from_numpy(found.losses).neg().exp()
    assert relative_error(teacher.features(QUERIES, "pool").vectors, expected * unknown[:, None]) < 1e-4


def test_layers_of_unit_length(world):
    teacher = GradientTeacher(world.decoder, replace(WHOLE, normalise_modules=True))
    gradients = weight_gradients(world.decoder, QUERIES)
    expected = flat({name: one / one.norm(dim=(1, 2), keepdim=True) for name, one in gradients.items()})
    assert relative_error(teacher.features(QUERIES, "query").vectors, expected) < 1e-3


def test_layer_cosine_is_the_mean_of_the_layers_cosines(world):
    def features(**settings):
        teacher = GradientTeacher(world.decoder, replace(SETTINGS, width=0, **settings))
        return [teacher.features(side, role).vectors for side, role in ((QUERIES, "query"), (POOL, "pool"))]

    ends = np.cumsum([view.length for view in lora_b(world.decoder, rank=8, seed=0)])
    layers = [np.split(side, ends[:-1], axis=1) for side in features(similarity="dot")]
    count = len(QUERIES)
    stacked = [torch.from_numpy(np.concatenate(both)) for both in zip(*layers, strict=True)]
    cosines = [exact_cosines(one)[:count, count:] for one in stacked]
    queries, pool = features(**TEACHERS["layer-cosine"][1])
    assert len(cosines) > 1
    np.testing.assert_allclose(queries @ pool.T, np.mean(cosines, axis=0), atol=1e-5)
    queries, pool = features()
    assert np.abs(queries @ pool.T - np.mean(cosines, axis=0)).max() > 0.01


def test_modules_choose_layers(world):
    name = next(iter(linear_weights(world.decoder.model)))
    teacher = GradientTeacher(world.decoder, replace(WHOLE, modules=name))
    expected = weight_gradients(world.decoder, QUERIES)[name].flatten(1)
    assert relative_error(teacher.features(QUERIES, "query").vectors, expected) < 1e-4


def exact_cosines(rows):
    unit = torch.nn.functional.normalize(rows, dim=1)
    return (unit @ unit.T).numpy()


def test_sketched_cosines_are_near_the_exact_ones(world):
    examples = some_examples() + facts(6)
    plain = GradientTeacher(world.decoder, replace(SETTINGS, width=0, similarity="dot")).features(examples, "query")
    found = GradientTeacher(world.decoder, replace(SETTINGS, width=16384)).features(examples, "query")
    deviations = found.vectors @ found.vectors.T - exact_cosines(torch.from_numpy(plain.vectors))
    assert np.abs(deviations).max() <= 5 * (2 / 16384) ** 0.5
    np.testing.assert_allclose(found.norms, np.linalg.norm(plain.vectors, axis=1), rtol=0.1)


def test_products_are_right_on_average_over_seeds(world):
    rows = flat(weight_gradients(world.decoder, QUERIES[:3]))
    truth = (rows @ rows.T).numpy()
    seeds = range(24)
    for source in ("two-sided", "weights"):
        settings = replace(WHOLE, source=source, rank=6, width=2048)
        found = np.stack(
            [
                influence(GradientTeacher(world.decoder, replace(settings, seed=seed)), QUERIES[:3], QUERIES[:3])
                for seed in seeds
            ]
        )
        error = found.std(axis=0, ddof=1) / len(seeds) ** 0.5
        assert (np.abs(found.mean(axis=0) - truth) < 4 * error).all()
        np.testing.assert_allclose(np.diag(found.mean(axis=0)), np.diag(truth), rtol=0.25)


def test_another_seed_gives_other_features_that_agree(world):
    examples = some_examples() + facts(12)
    wide = replace(SETTINGS, rank=16, width=8192)
    one, other = (GradientTeacher(world.decoder, replace(wide, seed=seed)) for seed in (0, 1))
    first, second = (teacher.features(examples, "query").vectors for teacher in (one, other))
    assert not np.allclose(first, second, atol=1e-3)
    above = np.triu_indices(len(examples), 1)
    assert np.corrcoef((first @ first.T)[above], (second @ second.T)[above])[0, 1] > 0.9


# Facts beside the features


@pytest.fixture
def teacher(decoder):
    return GradientTeacher(decoder, SETTINGS)


def test_order_follows_the_input(teacher):
    examples = some_examples()
    found, backwards = teacher.features(examples, "query"), teacher.features(examples[::-1], "query")
    np.testing.assert_allclose(backwards.vectors[::-1], found.vectors, atol=1e-5)
    np.testing.assert_allclose(backwards.losses[::-1], found.losses, rtol=1e-5)
    assert backwards.columns["tokens"][::-1] == found.columns["tokens"]


def test_same_settings_same_numbers(tokenizer):
    one, other = (GradientTeacher(tiny_decoder("llama", tokenizer), SETTINGS) for _ in range(2))
    np.testing.assert_array_equal(
        one.features(some_examples(), "query").vectors, other.features(some_examples(), "query").vectors
    )
    assert one.provenance == other.provenance


def test_columns_tell_about_each_example(decoder):
    decoder.max_length = 20
    examples = [*some_examples(), Example("long", "", "Hello world, " * 30)]
    found = GradientTeacher(decoder, SETTINGS).features(examples, "pool")
    tokens = decoder.tokenise(examples)
    assert found.columns["tokens"] == [len(one.ids) for one in tokens]
    assert found.columns["completion_tokens"] == [one.targets for one in tokens]
    assert found.columns["prompt_cut"] == [one.prompt_cut for one in tokens]
    assert found.columns["completion_cut"][-1] is True
    assert found.columns["no_gradient"] == [False] * len(examples)


def test_example_without_loss_is_flagged_and_zero(decoder):
    examples = [*some_examples()[:2], Example("none", "", "")]
    found = GradientTeacher(decoder, SETTINGS).features(examples, "pool")
    assert found.columns["no_gradient"] == [False, False, True]
    assert not found.vectors[2].any()
    assert not found.rejected.any()


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_norms_are_lengths_before_scaling(decoder, similarity):
    teacher = GradientTeacher(decoder, replace(WHOLE, similarity=similarity))
    found = teacher.features(QUERIES, "query")
    expected = flat(weight_gradients(decoder, QUERIES)).norm(dim=1)
    np.testing.assert_allclose(found.norms, expected, rtol=1e-4)


def test_advance_is_told_of_every_example(world):
    for name in ("gradient-cosine", "tracin", "forward"):
        steps = []
        world.teacher(name).features(some_examples(), "query", steps.append)
        assert sum(steps) == len(some_examples())


def test_gradient_that_is_not_finite_names_the_example(teacher):
    teacher.decoder.model.model.norm.weight.data[:] = float("nan")
    found = teacher.features(some_examples(), "query")
    assert found.rejected.all()
    assert not found.vectors.any()
    assert not found.norms.any()
    with pytest.raises(ModelError, match="'e0' is not finite"):
        found.refuse_rejected(some_examples())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_row_with_one_number_that_is_not_finite_is_zero(decoder, bad):
    tokens = decoder.tokenise(some_examples()[:2])
    found = Features.of(torch.tensor([[3.0, 4.0], [1.0, bad]]), torch.ones(2), tokens, SETTINGS)
    np.testing.assert_allclose(found.vectors, [[0.6, 0.8], [0, 0]])
    assert found.rejected.tolist() == [False, True]
    assert found.norms.tolist() == [5, 0]
    assert found.columns["no_gradient"] == [False, False]


def test_features_that_are_finite_are_let_through(teacher):
    found = teacher.features(some_examples(), "query")
    assert found.refuse_rejected(some_examples()) is found


def test_provenance_holds_what_changes_the_numbers(teacher):
    made = teacher.provenance
    assert made.teacher.name == "gradient-cosine"
    unsaid = ("name", "reduction", "centred")  # what earlier folders do not say: a mean, and nothing taken off
    assert made.teacher.settings == {key: value for key, value in asdict(teacher.settings).items() if key not in unsaid}
    assert made.decoder == teacher.decoder.fingerprint


def test_another_model_is_another_maker(teacher):
    other = copy.deepcopy(teacher.decoder.model)
    other.lm_head.weight.data[0, 0] += 1
    decoder = Decoder(other, teacher.decoder.tokenizer, name="other", max_length=96)
    assert GradientTeacher(decoder, SETTINGS).provenance.decoder != teacher.provenance.decoder


# Reading the matrix


def test_self_influence_is_the_diagonal(world):
    for name in ("gradient-dot", "logra-raw", "logra", "ekfac", "forward"):
        teacher = world.ready(name, similarity="dot")
        whole = influence(teacher, POOL, POOL)
        norms = teacher.features(POOL, "pool").norms
        np.testing.assert_allclose(np.diag(whole), norms**2, rtol=1e-3)
        one = influence(teacher, POOL[3:4], POOL[3:4])[0, 0]
        assert abs(one - whole[3, 3]) < 1e-3 * whole[3, 3]


@pytest.mark.parametrize("name", ["gradient-dot", "layer-cosine", "rrinf", "kfac"])
def test_a_summed_loss_makes_rows_longer_by_their_tokens_and_turns_none(world, name):
    mean, summed = world.shared(name), world.teacher(name, reduction="sum")
    if mean.needs_fitting:
        summed.load(mean.state())
    counts = np.array([one.targets for one in world.decoder.tokenise(POOL)], np.float32)
    usual, longer = (teacher.features(POOL, "pool") for teacher in (mean, summed))
    expected = usual.vectors if mean.settings.similarity == "cosine" else usual.vectors * counts[:, None]
    np.testing.assert_allclose(longer.vectors, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(longer.norms, usual.norms * counts, rtol=1e-4)
    for teacher in (mean, summed):
        np.testing.assert_array_equal(
            teacher.features(QUERIES, "query").vectors, mean.features(QUERIES, "query").vectors, strict=True
        )


def test_example_pushes_most_towards_itself(world):
    whole = influence(world.shared("gradient-cosine"), POOL, POOL)
    assert (whole.argmax(axis=1) == np.arange(len(POOL))).all()


class WholePool:
    """An index that shortlists everything, so that the teacher alone decides."""

    encoder = SimpleNamespace(query_projector=None, encode_query=lambda queries: np.zeros((len(queries), 1)), trust={})

    def search(self, vectors, k, opponents, where):
        rows = np.tile(np.arange(k), (len(vectors), 1))
        return SimpleNamespace(rows=rows, scores=np.zeros(rows.shape))

    def examples_at(self, rows):
        return [POOL[row] for row in rows]


@pytest.mark.parametrize("name", ["gradient-cosine", "logra", "lorif", "trak", "less"])
def test_proponents_and_opponents_are_reverses(world, name):
    teacher = world.shared(name)
    best, worst = (
        search(WholePool(), QUERIES, k=len(POOL), verify=len(POOL), teacher=teacher, opponents=opponents)
        for opponents in (False, True)
    )
    truth = influence(teacher, QUERIES, POOL)
    for row, upwards, downwards in zip(truth, best, worst, strict=True):
        assert [hit.row for hit in upwards] == [hit.row for hit in downwards][::-1] == np.argsort(-row).tolist()
        np.testing.assert_allclose([hit.exact for hit in upwards], np.sort(row)[::-1], rtol=1e-3, atol=1e-5)
