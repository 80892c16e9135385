import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from influcoder.model.loss import Sampled, cross_entropy, margin

CPU = torch.device("cpu")
seeds = st.integers(0, 2**31)


def some_logits(rows=5, words=7, seed=0, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(rows, words, generator=generator)
    return logits, torch.randint(0, words, (rows,), generator=generator)


def by_autograd(function, logits, targets):
    """Each token's gradient, in float64."""
    logits = logits.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(function(logits, targets).sum(), logits)
    return gradient


def shares_of(logits, targets):
    return torch.softmax(logits, -1)[torch.arange(len(targets)), targets]


@given(seeds)
def test_cross_entropy_is_autograds(seed):
    logits, targets = some_logits(seed=seed)
    losses, gradient, factor = cross_entropy(logits, targets)
    expected = by_autograd(lambda z, t: -shares_of(z, t).log(), logits, targets)
    torch.testing.assert_close((gradient * factor[:, None]).double(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses, torch.nn.functional.cross_entropy(logits, targets, reduction="none"))


@given(seeds)
def test_margin_is_autograds(seed):
    logits, targets = some_logits(seed=seed)
    losses, gradient, factor = margin(logits, targets)
    p = shares_of(logits.double(), targets)
    expected = by_autograd(lambda z, t: -(shares_of(z, t) / (1 - shares_of(z, t))).log(), logits, targets)
    known = p < 0.985
    found = (gradient * factor[:, None]).double()
    torch.testing.assert_close(found[known], expected[known], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(losses, cross_entropy(logits, targets)[0])


@pytest.mark.parametrize("lead", [5.0, 20.0, 200.0])
def test_margin_of_a_token_that_is_certain_stays_finite(lead):
    logits, targets = torch.tensor([[lead, 0.0, 0.0]]), torch.tensor([0])
    _, gradient, factor = margin(logits, targets)
    assert float(factor[0]) == pytest.approx(
        min(1 / (1 - float(shares_of(logits.double(), targets)[0]) + 1e-12), 100), rel=1e-3
    )
    assert bool((gradient * factor[:, None]).isfinite().all())


@pytest.mark.parametrize("loss", [cross_entropy, margin])
def test_logits_are_left_as_they_are_and_read_in_fp32(loss):
    logits, targets = some_logits()
    rough = logits.to(torch.bfloat16)
    before = rough.clone()
    found = loss(rough, targets)
    assert torch.equal(rough, before)
    for one, other in zip(found, loss(rough.float(), targets), strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_sampled_tokens_follow_the_models_prediction():
    draws = 40_000
    (row, _) = some_logits(rows=1, words=6, seed=3, spread=1.0)
    logits, targets = row.expand(draws, -1), torch.zeros(draws, dtype=torch.long)
    losses, gradient, factor = Sampled(0, CPU)(logits, targets)
    assert torch.equal(factor, torch.ones(draws))
    p = torch.softmax(row[0].double(), -1)
    drawn = (p.float() - gradient).round()  # onehot
    assert torch.equal(drawn.sum(dim=1), torch.ones(draws))
    error = (p * (1 - p) / draws).sqrt()
    assert bool(((drawn.double().mean(dim=0) - p).abs() <= 4 * error).all())
    torch.testing.assert_close(losses.double(), -p.log()[drawn.argmax(dim=1)], rtol=1e-5, atol=1e-5)
    fisher = torch.diag(p) - p.outer(p)
    found = gradient.double().T @ gradient.double() / draws
    torch.testing.assert_close(found, fisher, rtol=0, atol=4 * 0.5 / draws**0.5)


def test_sampled_is_decided_by_its_seed():
    logits, targets = some_logits(rows=50)
    first, again, other = (Sampled(seed, CPU)(logits, targets)[1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    loss = Sampled(1, CPU)
    assert not torch.equal(loss(logits, targets)[1], loss(logits, targets)[1])


def test_sampled_does_not_look_at_the_targets():
    logits, targets = some_logits(rows=50)
    one, other = (Sampled(1, CPU)(logits, each)[1] for each in (targets, (targets + 1) % 7))
    assert torch.equal(one, other)
