"""Distillation in a made-up world whose influences are known functions of the token table."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from helpers.linear_world import RECIPE, WIDTH, World, bytes_of, distilled, mean_spearman, nonsense, splits
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, InflucoderError, ModelError
from influcoder.evaluation.scorers import Surface
from influcoder.provenance import DecoderRecord, Provenance, StudentRecord
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import distill_static
from influcoder.student.effort import FORWARD, SHORT, Effort
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.forward_reader import ForwardReader
from influcoder.student.ridge import PENALTIES
from influcoder.student.sample import Sample
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings


@pytest.fixture(scope="module")
def learnt(tokenizer):
    return distilled(tokenizer)


@pytest.fixture(scope="module")
def test_split(tokenizer):
    return splits(tokenizer)[2]


def test_linear_world_is_learnt(learnt, test_split):
    scores = learnt.encode_query(test_split.queries) @ learnt.encode_pool(test_split.pool).T
    assert mean_spearman(test_split.influence, scores) >= 0.8


def test_surface_does_not_learn_it(tokenizer, learnt, test_split):
    train, validation, _ = splits(tokenizer)
    scores = Surface(learnt, dim=WIDTH).fit(train, validation).score(test_split.queries, test_split.pool)
    assert mean_spearman(test_split.influence, scores) < 0.3


def test_exact_queries_are_no_worse(learnt, test_split):
    pool = learnt.encode_pool(test_split.pool)
    from_text = learnt.encode_query(test_split.queries) @ pool.T
    exact = learnt.project_query(test_split.queries, test_split.query_features) @ pool.T
    truth = test_split.influence
    assert mean_spearman(truth, exact) >= mean_spearman(truth, from_text) - 1e-3


def test_scores_have_the_size_of_influences(learnt, test_split):
    scores = learnt.encode_query(test_split.queries) @ learnt.encode_pool(test_split.pool).T
    slope = np.polyfit(scores.ravel(), test_split.influence.ravel(), 1)[0]
    assert slope == pytest.approx(1, abs=0.3)


def test_measured_are_numbers_of_the_validation_split(learnt):
    assert learnt.measured["per_query_spearman"] > 0.8
    assert all(isinstance(value, float) for value in learnt.measured.values())
    assert learnt.provenance == Provenance(encoder="x", student=StudentRecord("static", seed=0))
    assert learnt.tier == "static"


def test_same_seed_same_bytes(tokenizer, learnt):
    again = distilled(tokenizer)
    assert bytes_of(again) == bytes_of(learnt)
    assert again.fingerprint == learnt.fingerprint


def test_another_seed_another_encoder(tokenizer, learnt):
    other = distilled(tokenizer, replace(RECIPE, seed=1))
    assert other.fingerprint != learnt.fingerprint


def test_other_data_another_encoder(tokenizer, learnt):
    assert distilled(tokenizer, seed=5).fingerprint != learnt.fingerprint


@pytest.mark.parametrize("side", ["queries", "pool"])
def test_overlapping_splits_are_refused(tokenizer, side):
    train, validation, _ = splits(tokenizer)
    shared = getattr(train, side)[3]
    leaking = replace(validation, **{side: [shared, *getattr(validation, side)[1:]]})
    with pytest.raises(ConfigError, match=rf"{side}: 1 examples are in both splits, '{shared.id}'"):
        distill_static(World(tokenizer).backbone(tokenizer), train, leaking, RECIPE)


@pytest.mark.parametrize("size", [(1, 5), (5, 1)])
def test_too_small_splits_are_refused(tokenizer, size):
    world = World(tokenizer)
    train, validation = world.sample(8, 8), world.sample(*size)
    with pytest.raises(ConfigError, match="expected at least 2 each"):
        distill_static(world.backbone(tokenizer), train, validation, RECIPE)


def test_dimensions_are_at_most_asked(tokenizer):
    assert distilled(tokenizer, replace(RECIPE, dim=5)).head.pool_bias.size == 5
    assert distilled(tokenizer, replace(RECIPE, dim=500)).head.pool_bias.size <= WIDTH + 1


def test_products_of_another_width_are_read(tokenizer):
    encoder = distilled(tokenizer, replace(RECIPE, product_width=48))
    assert encoder.reader.read([Example("", "a", "b c")])[0]["products"].shape == (1, 48)
    assert encoder.encode_pool([Example("", "a", "b")]).shape == (1, encoder.dim)


def test_what_tells_influence_is_what_is_read(tokenizer, learnt):
    """Influence is a function of the completion's mean embedding here, and of nothing else."""
    assert learnt.settings["groups"]["pool"][0] == "completion"
    assert learnt.settings["groups"]["query"][0] == "completion"
    assert "prompt" not in learnt.settings["groups"]["pool"]


def test_channels_that_do_not_help_take_no_room(learnt):
    assert not learnt.head.channels
    assert learnt.dim == learnt.head.pool_bias.size


def test_head_is_solved_on_validation_examples_too(tokenizer):
    """Choices are made on them; what is kept has seen them."""
    train, validation, _ = splits(tokenizer)
    other = replace(validation, pool_features=validation.pool_features + np.float32(0.5))
    backbone = World(tokenizer).backbone(tokenizer)
    one, two = (distill_static(backbone, train, part, RECIPE) for part in (validation, other))
    assert one.head.pool_bias.tobytes() != two.head.pool_bias.tobytes()


def test_without_refit_validation_examples_are_for_choices_alone(tokenizer):
    """A bias is the mean of what the head was solved on, whatever was chosen."""
    train, validation, _ = splits(tokenizer)
    other = replace(validation, pool_features=validation.pool_features + np.float32(0.5))
    backbone = World(tokenizer).backbone(tokenizer)
    one, two = (distill_static(backbone, train, part, RECIPE, refit=False) for part in (validation, other))
    assert one.head.pool_bias.tobytes() == two.head.pool_bias.tobytes()
    assert one.trust["text"] != two.trust["text"]


def test_expected_embeddings_are_a_loop_over_the_vocabulary(decoder):
    import torch

    found = expected_embeddings(decoder)
    head = decoder.model.get_output_embeddings().weight.float()
    for token in (0, 3, len(head) - 1):
        with torch.no_grad():
            logits = decoder.model(input_ids=torch.tensor([[token]])).logits[0, 0]
        np.testing.assert_allclose(found["predicted"][token], (torch.softmax(logits, 0) @ head).detach(), atol=2e-3)


def forward_student(decoder, expected=None):
    rng = np.random.default_rng(0)
    made = [Example(f"f{n}", nonsense(rng), nonsense(rng)) for n in range(90)]
    target = ForwardReader(decoder).read(made)["decoder_error"]
    parts = [Sample(made[a:b], made[b:c], target[a:b], target[b:c]) for a, b, c in ((0, 15, 55), (55, 65, 90))]
    return distill_static(
        backbone_of(decoder), *parts, RECIPE, expected=expected, effort=FORWARD, decoder=decoder
    ), made


def test_forward_tier_reads_the_decoder(decoder, tmp_path):
    encoder, made = forward_student(decoder, expected_embeddings(decoder))
    assert encoder.tier == "forward"
    assert "decoder_error" in encoder.settings["groups"]["pool"]
    encoder.save(tmp_path / "e")
    again = InfluenceEncoder.load(tmp_path / "e", decoder=decoder)
    np.testing.assert_allclose(again.encode_pool(made), encoder.encode_pool(made), atol=2e-2)
    with pytest.raises(ModelError, match="give it with --decoder"):
        InfluenceEncoder.load(tmp_path / "e").encode_pool(made)


def test_forward_tier_refuses_another_decoder(decoder, tmp_path):
    encoder, _ = forward_student(decoder)
    encoder.provenance = replace(encoder.provenance, decoder=DecoderRecord("0" * 64, ""))
    encoder.save(tmp_path / "e")
    with pytest.raises(ModelError, match="distilled from a decoder with weights 000000000000"):
        InfluenceEncoder.load(tmp_path / "e", decoder=decoder)


def short_student(decoder, tokens, **changes):
    """Texts of about thirty tokens, a teacher of their gradients, and a student that sees `tokens` of each."""
    rng = np.random.default_rng(3)
    made = [Example(f"s{n}", nonsense(rng) + nonsense(rng), nonsense(rng) + nonsense(rng)) for n in range(120)]
    teacher = GradientTeacher(decoder, TeacherSettings(rank=4, width=256, precision="fp32", **changes))
    found = teacher.features(made, "pool").vectors
    train, validation, test = (
        Sample(made[a:b], made[b:c], found[a:b], found[b:c]) for a, b, c in ((0, 20, 50), (50, 60, 80), (80, 90, 120))
    )
    effort = Effort(1.0, tokens, backward=True)
    return (
        distill_static(backbone_of(decoder), train, validation, RECIPE, effort=effort, teacher=teacher),
        teacher,
        test,
    )


def agreement_with_exact_queries(encoder, test):
    scores = encoder.project_query(test.queries, test.query_features) @ encoder.encode_pool(test.pool).T
    return mean_spearman(test.influence, scores)


def test_short_tier_of_whole_texts_is_the_teacher(decoder):
    encoder, _, test = short_student(decoder, 1000)
    assert encoder.settings["groups"]["pool"][-1] == "short"
    exact = test.pool_features @ encoder.pool_projector
    scores = test.query_features @ encoder.query_projector @ exact.T
    found = encoder.project_query(test.queries, test.query_features) @ encoder.encode_pool(test.pool).T
    assert mean_spearman(scores, found) > 0.98


def test_more_of_a_text_is_nearer_to_the_teacher(decoder):
    few, more, whole = (agreement_with_exact_queries(*short_student(decoder, n)[::2]) for n in (6, 16, 1000))
    assert few < more < whole


def test_short_tier_is_saved_and_loaded_with_its_decoder(decoder, tmp_path):
    encoder, _, test = short_student(decoder, 16)
    assert encoder.tier == "short"
    encoder.save(tmp_path / "e")
    again = InfluenceEncoder.load(tmp_path / "e", decoder=decoder)
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_allclose(again.encode_pool(test.pool), encoder.encode_pool(test.pool), atol=1e-4)
    np.testing.assert_allclose(again.encode_query(test.queries), encoder.encode_query(test.queries), atol=1e-4)
    with pytest.raises(ModelError, match="an encoder of the short tier reads texts with its decoder"):
        InfluenceEncoder.load(tmp_path / "e").encode_pool(test.pool)


@pytest.mark.parametrize(("effort", "missing"), [(SHORT, "needs the teacher"), (FORWARD, "needs it")])
def test_a_student_that_runs_the_decoder_is_given_it(decoder, effort, missing):
    rng = np.random.default_rng(0)
    made = [Example(f"f{n}", nonsense(rng), nonsense(rng)) for n in range(20)]
    part = np.eye(5, dtype=np.float32)
    one, two = (Sample(made[a : a + 5], made[a + 5 : a + 10], part, part) for a in (0, 10))
    with pytest.raises(ConfigError, match=missing):
        distill_static(backbone_of(decoder), one, two, RECIPE, effort=effort)


def test_words_shared_weigh_when_nothing_else_tells(tokenizer):
    """Influence that is sameness of words alone goes to the identity channels."""
    world = World(tokenizer)
    names = [nonsense(world.rng) for _ in range(40)]

    def side(start, count):
        return [Example(f"n{start + n}", "who?", names[n % len(names)]) for n in range(count)]

    def features(examples):
        return np.eye(len(names), dtype=np.float32)[[names.index(one.completion) for one in examples]]

    train, validation = (
        Sample(queries, pool, features(queries), features(pool))
        for queries, pool in ((side(0, 20), side(20, 20)), (side(40, 40)[20:], side(80, 40)[20:]))
    )
    encoder = distill_static(world.backbone(tokenizer), train, validation, RECIPE)
    assert encoder.head.channel_weights.max() > 0.2
    scores = encoder.encode_query(validation.queries) @ encoder.encode_pool(validation.pool).T
    assert (scores.argmax(axis=1) == np.arange(20)).mean() > 0.9


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_influences_that_are_all_the_same_are_survived_or_named(tokenizer, value):
    """As when every row is the same text."""
    world = World(tokenizer)
    splits = [
        Sample(part.queries, part.pool, np.full((8, 4), value, np.float32), np.full((8, 4), value, np.float32))
        for part in (world.sample(8, 8), world.sample(8, 8))
    ]
    with contextlib.suppress(InflucoderError):
        encoder = distill_static(world.backbone(tokenizer), *splits, RECIPE)
        assert np.isfinite(encoder.encode_pool(splits[0].pool)).all()


def test_examples_that_are_all_the_same_are_survived_or_named(tokenizer):
    world = World(tokenizer)
    splits = [[Example(f"{n}", "who?", "Paris") for n in range(start, start + 16)] for start in (0, 16)]
    samples = [Sample(part[:8], part[8:], world.features(part[:8]), world.features(part[8:])) for part in splits]
    with contextlib.suppress(InflucoderError):
        encoder = distill_static(world.backbone(tokenizer), *samples, RECIPE)
        assert np.isfinite(encoder.encode_pool(splits[0])).all()


def test_penalties_span_from_none_to_strong():
    assert list(PENALTIES) == sorted(PENALTIES)
    assert PENALTIES[0] <= 1e-5
    assert PENALTIES[-1] >= 10


def test_influence_of_a_sample_is_the_inner_product(test_split):
    expected = test_split.query_features @ test_split.pool_features.T
    np.testing.assert_allclose(test_split.influence, expected, atol=1e-6)
    assert test_split.influence.dtype == np.float32
