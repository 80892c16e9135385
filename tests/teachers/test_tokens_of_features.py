"""The share of each token in a teacher's influence: against features of the gradients of single tokens."""

import re

import numpy as np
import pytest
import torch

from helpers.teacher_oracles import facts, token_losses, trained_adapter, trained_checkpoints
from helpers.tiny import tiny_decoder
from influcoder.errors import ConfigError
from influcoder.model.decoder import Decoder
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings

SMALL = {"rank": 4, "precision": "fp32", "kept": 6}
LEARNT = ("logra", "lorif", "trackstar", "rrinf", "gist", "datainf", "ekfac", "kfac", "kfac-cosine", "centred-cosine")
NAMES = ("gradient-dot", "gradient-cosine", "layer-cosine", "logra-raw", *LEARNT)
SUMMED = ("tracin", "gradient-cosine", "layer-cosine")


def settings_of(name, **more):
    width = {"width": 256} if TeacherSettings.named(name).width else {}
    return TeacherSettings.named(name, **(SMALL | width | more))


@pytest.fixture(scope="module")
def rows():
    return facts(20)


@pytest.fixture(scope="module")
def base(tokenizer):
    return tiny_decoder("llama", tokenizer)


@pytest.fixture(scope="module")
def checkpoints(base, tmp_path_factory):
    return Checkpoint.read(trained_checkpoints(tmp_path_factory.mktemp("run"), base), max_length=96)


@pytest.fixture(scope="module")
def teacher_named(base, rows):
    def make(name, **more):
        teacher = GradientTeacher(base, settings_of(name, **more))
        if teacher.needs_fitting:
            teacher.fit(rows[:12], rows[12:])
        return teacher

    return make


def views_of_tokens(model, tokens):
    """Each view's (targets, length) gradients of single tokens' parts of the loss, by plain autograd."""
    modules = [view.module for view in model.views]
    parameters = [module.weight.requires_grad_(True) for module in modules]
    losses = token_losses(model.decoder.model, tokens) / tokens.targets
    found = [[] for _ in modules]
    for loss in losses:
        for number, gradient in enumerate(torch.autograd.grad(loss, parameters, retain_graph=True)):
            view = model.views[number]
            seen = gradient.T if view.right is None else view.right @ gradient.T
            found[number].append(view.scale * (seen if view.left is None else seen @ view.left.T).flatten())
    for parameter in parameters:
        parameter.requires_grad_(False)
    return [torch.stack(one) for one in found]


def features_of_tokens(teacher, example, role):
    """(targets, dim): what each token's gradient is in the features, by the norms and singular vectors of the whole."""
    (tokens,) = teacher.decoder.tokenise([example])
    settings, total = teacher.settings, 0.0
    for number, share in enumerate(teacher._shares):
        model = teacher._raw(number)
        parts = views_of_tokens(model, tokens)
        if model._factors is not None:
            parts = [part * factors for part, factors in zip(parts, model._factors, strict=True)]
        if settings.normalise_modules:
            parts = [part / part.sum(dim=0).norm() for part in parts]
        if settings.code_rank and role == "pool":
            for place, view in enumerate(model.views):
                u = torch.linalg.svd(parts[place].sum(dim=0).view(view.shape)).U[:, : settings.code_rank]
                parts[place] = (u @ u.T @ parts[place].view(-1, *view.shape)).flatten(1)
        raw = torch.cat(parts, dim=1) if model._sketch is None else model._sketch(parts)
        if teacher._preconditioner is not None and (not settings.code_rank or role == "query"):
            raw = teacher._preconditioner(raw, 1.0 if settings.code_rank else 0.5)
        total = total + share**0.5 * raw / (raw.sum(dim=0).norm() if settings.similarity == "cosine" else 1.0)
    if settings.centred:
        total = total - teacher.state()["mean"] / tokens.targets
    return total / (total.sum(dim=0).norm() if settings.similarity == "cosine" else 1.0)


def compared(teacher, rows):
    """Shares against the oracle and against influences, in both roles."""
    examples, others = rows[1:4], rows[4:6]
    for role, other_role in (("pool", "query"), ("query", "pool")):
        vectors = teacher.features(others, other_role).vectors
        scores = teacher.features(examples, role).vectors @ vectors.T
        found = teacher.token_shares(examples, role, [vectors] * len(examples))
        for example, shares, score in zip(examples, found, scores, strict=True):
            expected = vectors @ features_of_tokens(teacher, example, role).numpy().T
            assert shares.shape == expected.shape
            np.testing.assert_allclose(shares, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
            np.testing.assert_allclose(shares.sum(axis=1), score, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_shares_are_those_of_the_tokens_features(teacher_named, rows, name):
    compared(teacher_named(name), rows)


@pytest.mark.parametrize("name", ["gradient-cosine", "layer-cosine"])
def test_shares_of_whole_gradients(teacher_named, rows, name):
    compared(teacher_named(name, width=0), rows)


@pytest.mark.parametrize("name", SUMMED)
def test_shares_are_added_up_over_checkpoints(base, checkpoints, rows, name):
    compared(GradientTeacher(base, settings_of(name), checkpoints=checkpoints), rows)


def test_shares_of_an_adapters_gradients(rows, tokenizer, tmp_path):
    folder, adapter = trained_adapter(tmp_path, tokenizer)
    decoder = Decoder.load(folder, adapter=adapter, device="cpu", max_length=96)
    compared(GradientTeacher(decoder, settings_of("adapter")), rows)


def test_every_text_has_its_own_queries(teacher_named, rows):
    teacher = teacher_named("layer-cosine")
    vectors = teacher.features(rows[4:7], "query").vectors
    one, other = teacher.token_shares(rows[:2], "pool", [vectors[:1], vectors[1:]])
    both = teacher.token_shares(rows[:2], "pool", [vectors, vectors])
    np.testing.assert_array_equal(one, both[0][:1])
    np.testing.assert_array_equal(other, both[1][1:])
    assert teacher.token_shares(rows[:1], "pool", [vectors[:0]])[0].shape == (0, one.shape[1])


@pytest.mark.parametrize("name", ["forward", "repsim", "rds+", "trak"])
def test_teachers_whose_influence_is_no_sum_over_tokens(base, rows, name):
    teacher = make_teacher(base, TeacherSettings.named(name, precision="fp32"))
    told = f"by {re.escape(name)} is no sum over a row's tokens.*: gradient-cosine, .*, ekfac, kfac, kfac-cosine"
    with pytest.raises(ConfigError, match=told):
        teacher.token_shares(rows[:1], "pool", [np.zeros((1, 4), np.float32)])
