"""Learning from pseudo-labels, in a made-up linear world."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.linear_world import RECIPE, World, bytes_of, mean_spearman
from influcoder.errors import ConfigError, ModelError
from influcoder.maths.influence import SpectralTargets
from influcoder.student import pseudo_labels as module
from influcoder.student.distill import distill_static
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.pseudo_labels import PseudoLabels
from influcoder.student.sample import not_in

SIZES = ((24, 30), (10, 20), (20, 80))


@pytest.fixture(scope="module")
def world(tokenizer):
    made = World(tokenizer, seed=3)
    return made, [made.sample(*size) for size in SIZES], made.examples(60), made.examples(200)


def solved(tokenizer, world, pseudo=None):
    made, (learnt_from, chosen_by, _), *_ = world
    return distill_static(made.backbone(tokenizer), learnt_from, chosen_by, RECIPE, pseudo=pseudo)


@pytest.fixture(scope="module")
def plain(tokenizer, world):
    return solved(tokenizer, world)


def exact_labels(world, student):
    """What a perfect student would say: the coordinates of the further examples' own features."""
    made, (learnt_from, *_), queries, pool = world
    targets = SpectralTargets.of(learnt_from.query_features, learnt_from.pool_features, RECIPE.dim)
    ends = made.features(queries) @ targets.query_projector, made.features(pool) @ targets.pool_projector
    return PseudoLabels(queries, pool, *(np.asarray(one, np.float32) for one in ends), student)


def agreement_of(world, encoder):
    test = world[1][2]
    return mean_spearman(test.influence, encoder.encode_query(test.queries) @ encoder.encode_pool(test.pool).T)


def test_good_labels_help_and_bad_ones_do_not(tokenizer, world, plain):
    labels = exact_labels(world, plain)
    without, taught = agreement_of(world, plain), agreement_of(world, solved(tokenizer, world, labels))
    assert 1 - taught < 0.7 * (1 - without)
    shuffled = replace(labels, pool_coordinates=labels.pool_coordinates[::-1].copy())
    assert agreement_of(world, solved(tokenizer, world, shuffled)) < taught - 0.1


def test_either_side_alone(tokenizer, world, plain):
    whole = exact_labels(world, plain)
    none = np.empty((0, RECIPE.dim), np.float32)
    for labels in (
        replace(whole, queries=[], query_coordinates=none),
        replace(whole, pool=[], pool_coordinates=none),
    ):
        assert agreement_of(world, solved(tokenizer, world, labels)) > agreement_of(world, plain)


def test_no_labels_change_nothing(tokenizer, world, plain):
    found = solved(tokenizer, world, PseudoLabels.by(plain, [], []))
    assert bytes_of(found) == bytes_of(plain)
    assert found.provenance.student == replace(plain.provenance.student, pseudo_labels_by="static")


def test_labels_are_the_students_coordinates(world, plain, monkeypatch):
    _, _, queries, pool = world
    labels = PseudoLabels.by(plain, queries, pool)
    np.testing.assert_allclose(
        plain.encode_pool(pool)[:, : RECIPE.dim],
        labels.pool_coordinates * np.sqrt(plain.head.spectral_weight),
        atol=1e-6,
    )
    monkeypatch.setattr(module, "AT_ONCE", 7)
    again = PseudoLabels.by(plain, queries, pool)
    np.testing.assert_allclose(again.query_coordinates, labels.query_coordinates, atol=1e-5)
    np.testing.assert_allclose(again.pool_coordinates, labels.pool_coordinates, atol=1e-5)


def test_a_student_of_other_examples_is_refused(tokenizer, world):
    other = World(tokenizer, seed=8)
    stranger = distill_static(other.backbone(tokenizer), *(other.sample(*size) for size in SIZES[:2]), RECIPE)
    with pytest.raises(ConfigError, match="distilled from other examples"):
        solved(tokenizer, world, PseudoLabels.by(stranger, world[2], world[3]))
    with pytest.raises(ModelError, match="no spectral coordinates"):
        PseudoLabels.by(InfluenceEncoder(stranger.backbone, None), [], world[3])


def test_known_texts_are_left_out_and_copies_too(world):
    rows = world[3][:5]
    copies = [replace(one, id=f"copy of {one.id}") for one in rows[2:]]
    assert not_in(rows[:2], [*rows, *copies]) == rows[2:]
    assert not_in([], []) == []
