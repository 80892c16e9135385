"""Learnt views against explicit factors, eigenvectors and second moments in float64."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers.teacher_oracles import facts, influence, linear_weights, mean_loss, relative_error, weight_gradients
from helpers.tiny import some_examples, tiny_decoder
from influcoder.errors import ConfigError
from influcoder.model.batches import make_batches
from influcoder.model.layers import lora_b, two_sided, weights
from influcoder.model.loss import Sampled
from influcoder.teachers import kronecker as learnt
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.kronecker import FittedViews, fit_kronecker, fit_normalised, fit_principal, normalise_views
from influcoder.teachers.settings import TeacherSettings

HOW = {"bf16": False, "token_budget": 60}
FAMILIES = ("llama", "gpt2")
QUERIES, POOL = some_examples()[:4], facts(16)


class ArgmaxTarget:
    """In place of `Sampled`: the token that the model thinks likeliest, so that an oracle can follow."""

    def __init__(self, *_):
        pass

    def __call__(self, logits, targets):
        from influcoder.model.loss import cross_entropy

        return cross_entropy(logits, logits.argmax(dim=1))


def argmax_loss(model, tokens):
    ids = torch.from_numpy(tokens.ids)
    logits = model(input_ids=ids[None]).logits[0, max(tokens.start, 1) - 1 : -1]
    return nn.functional.cross_entropy(logits, logits.argmax(dim=1).detach())


def second_moments(decoder, examples, objective):
    """{layer: (Σ x xᵀ, Σ δ δᵀ)} over tokens, an example at a time, float64."""
    model = copy.deepcopy(decoder.model).requires_grad_(True)
    sums, seen = {}, {}

    def hook(name):
        def on_forward(module, inputs, output):
            output.retain_grad()
            seen[name] = inputs[0], output

        return on_forward

    for name in linear_weights(model):
        model.get_submodule(name).register_forward_hook(hook(name))
    for tokens in decoder.tokenise(examples):
        objective(model, tokens).backward()
        for name, (x, output) in seen.items():
            sides = [one[0].detach().double() for one in (x, output.grad)]
            products = [rows.T @ rows for rows in sides]
            sums[name] = [a + b for a, b in zip(sums[name], products, strict=True)] if name in sums else products
    return sums


def same_directions(found, expected_moment, count):
    """Whether rows span the leading eigenvectors of a matrix, and each holds its eigenvalue."""
    values, vectors = torch.linalg.eigh(expected_moment)
    found = found.double()
    torch.testing.assert_close(found @ found.T, torch.eye(len(found), dtype=torch.float64), rtol=0, atol=1e-4)
    rayleigh = ((found @ expected_moment) * found).sum(dim=1)
    torch.testing.assert_close(rayleigh, values[-count:], rtol=1e-3, atol=1e-5 * float(values[-1]))
    top = vectors[:, -1]
    if values[-1] > 1.2 * values[-2]:
        assert abs(float(found[-1] @ top)) > 0.999


@pytest.mark.parametrize("family", FAMILIES)
def test_principal_views_are_the_top_eigenvectors(tokenizer, family):
    decoder = tiny_decoder(family, tokenizer)
    plain = weights(decoder)
    moments = second_moments(decoder, POOL, mean_loss)
    fitted = fit_principal(decoder, plain, POOL, rank=3, **HOW)
    assert fitted.factors is None
    for view in fitted.views:
        assert view.shape == (3, 3)
        assert view.scale == 1
        for side, moment in zip((view.right, view.left), moments[view.name.removesuffix(".weight")], strict=True):
            same_directions(side, moment, 3)


def test_principal_rank_above_a_layers_size_keeps_all_of_it(decoder):
    teacher = GradientTeacher(decoder, TeacherSettings.named("logra-raw", rank=1000, precision="fp32", token_budget=60))
    teacher.fit(POOL, QUERIES)
    plain = GradientTeacher(decoder, replace(teacher.settings, source="weights"))
    assert teacher.dim == plain.dim
    assert relative_error(influence(teacher, QUERIES, POOL), influence(plain, QUERIES, POOL)) < 1e-3


def test_principal_views_hold_more_of_the_gradient_than_random_ones(decoder):
    settings = TeacherSettings.named("logra-raw", rank=3, precision="fp32", token_budget=60)
    teacher = GradientTeacher(decoder, settings)
    teacher.fit(POOL, QUERIES)
    whole = GradientTeacher(decoder, replace(settings, source="weights")).features(QUERIES, "query").norms
    kept = teacher.features(QUERIES, "query").norms / whole
    random = (3 * 3 / np.mean([view.length for view in teacher._plain.views])) ** 0.5
    assert (kept < 1.0001).all()
    assert kept.mean() > 3 * random


@pytest.mark.parametrize("family", FAMILIES)
def test_ekfac_learns_factors_of_one_half_and_eigenvalues_of_the_other(tokenizer, family, monkeypatch):
    monkeypatch.setattr(learnt, "Sampled", ArgmaxTarget)
    decoder = tiny_decoder(family, tokenizer)
    fitted = fit_kronecker(decoder, weights(decoder), POOL, rank=1000, damping=0.1, seed=0, **HOW)
    moments = second_moments(decoder, POOL[:8], argmax_loss)
    gradients = weight_gradients(decoder, POOL[8:], argmax_loss)
    for view, factors in zip(fitted.views, fitted.factors, strict=True):
        name = view.name.removesuffix(".weight")
        for side, moment in zip((view.right, view.left), moments[name], strict=True):
            same_directions(side, moment, len(moment))
        rotated = view.right.double() @ gradients[name] @ view.left.double().T
        corrected = rotated.square().mean(dim=0).flatten()
        expected = (corrected + 0.1 * corrected.mean()).rsqrt()
        assert relative_error(factors, expected) < 1e-3


@pytest.mark.parametrize("rank", [5, 1000])
@pytest.mark.parametrize("modules", ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"])
def test_ekfac_products_are_those_of_the_explicit_inverse(decoder, modules, rank):
    settings = TeacherSettings.named("ekfac", width=0, rank=rank, modules=modules, precision="fp32", token_budget=60)
    teacher = GradientTeacher(decoder, settings)
    teacher.fit(POOL, QUERIES)
    view, factors = teacher._fitted.views[0], teacher._fitted.factors[0].double()
    # Q (Λ + λI)⁻¹ Qᵀ over vec(G), with Q the Kronecker product of both sides' eigenvectors
    q = torch.kron(view.right.T.contiguous().double(), view.left.T.contiguous().double())
    inverse = q @ torch.diag(factors.square()) @ q.T
    sides = [weight_gradients(decoder, side)[modules].flatten(1) for side in (QUERIES, POOL)]
    assert relative_error(influence(teacher, QUERIES, POOL), sides[0] @ inverse @ sides[1].T) < 1e-3


@pytest.mark.parametrize("name", ["kfac", "kfac-cosine"])
@pytest.mark.parametrize("rank", [3, 40])  # fewer, and more, rows than a text has tokens
def test_kfac_is_the_explicit_inverse_of_both_factors(decoder, name, rank, monkeypatch):
    monkeypatch.setattr(learnt, "Sampled", ArgmaxTarget)
    layer = "model.layers.1.mlp.down_proj"
    settings = TeacherSettings.named(name, width=0, rank=rank, modules=layer, precision="fp32", token_budget=60)
    teacher = GradientTeacher(decoder, settings)
    teacher.fit(POOL, QUERIES)

    (view,) = lora_b(decoder, rank=rank, seed=0, modules=layer)
    projection = view.right.double()
    inputs, errors = second_moments(decoder, POOL, argmax_loss)[layer]
    tokens = sum(len(one.ids) for one in decoder.tokenise(POOL))
    factors = [projection @ (inputs / tokens) @ projection.T, errors / tokens]
    kronecker = torch.kron(*factors)
    damped = kronecker + settings.damping * kronecker.diagonal().mean() * torch.eye(len(kronecker))
    sides = [
        view.scale * (projection @ weight_gradients(decoder, side)[layer].double()).flatten(1)
        for side in (QUERIES, POOL)
    ]
    expected = sides[0] @ torch.linalg.solve(damped, sides[1].T)
    if name == "kfac-cosine":
        lengths = [(side * torch.linalg.solve(damped, side.T).T).sum(dim=1).sqrt() for side in sides]
        expected = expected / torch.outer(*lengths)
    assert relative_error(influence(teacher, QUERIES, POOL), expected) < 1e-3


@pytest.mark.parametrize("fit", ["fit_whitened", "fit_kronecker"])
def test_layers_that_no_token_reached_are_left_out(decoder, monkeypatch, fit):
    """As an expert that is never chosen: nothing is known of its curvature, and the others must not drown in it."""
    moments, sums = learnt._moments, learnt._sums

    def without_the_first(found):
        return {key: value for key, value in found.items() if key not in (0, (0, 0), (0, 1))}

    monkeypatch.setattr(learnt, "_moments", lambda *words: without_the_first(moments(*words)))
    more = {"rank": 4} if fit == "fit_kronecker" else {}
    if fit == "fit_kronecker":
        monkeypatch.setattr(
            learnt,
            "_sums",
            lambda *words: {key: 0 * value if key == 0 else value for key, value in sums(*words).items()},
        )
    plain = lora_b(decoder, rank=3, seed=0)
    fitted = getattr(learnt, fit)(decoder, plain, POOL, damping=0.1, seed=0, **more, **HOW)
    assert all(side.isfinite().all() for view in fitted.views for side in (view.right, view.left))
    assert all(factors.isfinite().all() for factors in fitted.factors)
    assert not fitted.factors[0].any()
    assert all(factors.min() > 0 for factors in fitted.factors[1:])


def test_ekfac_is_not_the_plain_product(decoder):
    settings = TeacherSettings.named("ekfac", width=0, rank=1000, precision="fp32", token_budget=60)
    teacher = GradientTeacher(decoder, settings)
    teacher.fit(POOL, QUERIES)
    plain = GradientTeacher(decoder, replace(settings, source="weights"))
    one, other = (influence(each, QUERIES, POOL).flatten() for each in (teacher, plain))
    assert np.corrcoef(one, other)[0, 1] < 0.98


def test_sampled_targets_make_the_true_fisher(decoder):
    # E over drawn targets of δ δᵀ at the logits is diag(p) - p pᵀ
    logits = torch.randn(1, 5, generator=torch.Generator().manual_seed(0)).repeat(20_000, 1)
    _, delta, factor = Sampled(0, torch.device("cpu"))(logits, torch.zeros(20_000, dtype=torch.long))
    delta = (delta * factor[:, None]).double()
    p = torch.softmax(logits[0].double(), dim=0)
    torch.testing.assert_close(delta.T @ delta / len(delta), torch.diag(p) - torch.outer(p, p), rtol=0, atol=0.01)


def test_ekfac_of_too_few_examples_is_refused(decoder):
    with pytest.raises(ConfigError, match="fitted on pool examples, 3 given; expected at least 4"):
        fit_kronecker(decoder, weights(decoder), POOL[:3], rank=9, damping=0.1, seed=0, **HOW)


@pytest.mark.parametrize("family", FAMILIES)
def test_normalised_views_divide_by_the_factored_second_moment(tokenizer, family):
    decoder = tiny_decoder(family, tokenizer)
    plain = two_sided(decoder, rank=3, seed=0)
    fitted = normalise_views(decoder, plain, weights(decoder), POOL, **HOW)
    pool, others = weight_gradients(decoder, POOL), weight_gradients(decoder, QUERIES)
    for view, before in zip(fitted.views, plain, strict=True):
        second = pool[view.name].square().mean(dim=0)
        rows, columns = second.sum(dim=1), second.sum(dim=0)
        # Adafactor's V = rows · columns / sum
        divided = others[view.name] / (torch.outer(rows, columns) / second.sum()).sqrt()
        expected = before.scale * before.right.double() @ divided @ before.left.double().T
        found = view.scale * view.right.double() @ others[view.name] @ view.left.double().T
        assert relative_error(found, expected) < 1e-3


def test_normalised_weights_need_no_projection(decoder):
    plain = weights(decoder, modules="model.layers.0.mlp.*")
    fitted = normalise_views(decoder, plain, plain, POOL, **HOW)
    second = weight_gradients(decoder, POOL)[plain[0].name.removesuffix(".weight")].square().mean(dim=0)
    factored = torch.outer(second.sum(dim=1), second.sum(dim=0)) / second.sum()
    view = fitted.views[0]
    found = view.scale * torch.outer(view.right.diagonal(), view.left.diagonal())
    assert relative_error(found, factored.rsqrt()) < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_trackstars_views_are_the_top_eigenvectors_after_the_correction(tokenizer, family):
    decoder = tiny_decoder(family, tokenizer)
    plain = weights(decoder)
    corrected = normalise_views(decoder, plain, plain, POOL, **HOW)
    moments = second_moments(decoder, POOL, mean_loss)
    for view, before in zip(fit_normalised(decoder, plain, POOL, rank=3, **HOW).views, corrected.views, strict=True):
        assert view.scale == pytest.approx(before.scale)
        for side, moment in enumerate(moments[view.name.removesuffix(".weight")]):
            root = (before.right, before.left)[side].diagonal().double()
            rows = (view.right, view.left)[side].double() / root
            same_directions(rows, root[:, None] * moment * root, 3)


@pytest.mark.parametrize("name", ["ekfac", "kfac", "logra", "trackstar"])
def test_state_gives_the_views_back(decoder, name):
    settings = TeacherSettings.named(name, rank=3, precision="fp32", token_budget=60, width=0)
    teacher = GradientTeacher(decoder, settings)
    teacher.fit(POOL, QUERIES)
    fitted = teacher._fitted
    again = FittedViews.of(teacher._plain.views, fitted.state())
    for one, other in zip(again.views, fitted.views, strict=True):
        assert (one.name, one.scale, one.shape) == (other.name, other.scale, other.shape)
        torch.testing.assert_close(one.right, other.right, rtol=0, atol=0)
        torch.testing.assert_close(one.left, other.left, rtol=0, atol=0)
    assert (again.factors is None) == (fitted.factors is None) == (name not in ("ekfac", "kfac"))


def test_padding_has_no_part_in_the_factors(decoder):
    short, long = some_examples()[0], some_examples()[4]
    batch = next(make_batches(decoder.tokenise([short, long]), 10_000, decoder.device))
    assert len(set(batch.lengths.tolist())) == 2  # one of them is padded
    apart, together = (
        fit_principal(decoder, weights(decoder), [short, long], rank=2, bf16=False, token_budget=budget)
        for budget in (1, 10_000)
    )
    for one, other in zip(apart.views, together.views, strict=True):
        torch.testing.assert_close((one.right @ other.right.T).abs().diagonal(), torch.ones(2), rtol=0, atol=1e-2)
