"""The share of each token in an influence: against gradients token by token, and adding up to the influence."""

from dataclasses import replace

import pytest
import torch

from helpers.tiny import FAMILIES, some_examples, tiny_decoder
from influcoder.model.batches import make_batches
from influcoder.model.gradients import LayerGradients
from influcoder.model.layers import lora_b, two_sided, weights
from influcoder.model.token_shares import TokenShares

VIEWS = {
    "lora-b": lambda decoder: lora_b(decoder, rank=4, seed=0),
    "two-sided": lambda decoder: two_sided(decoder, rank=4, seed=0),
    "weights": weights,
}


def gradient_of(decoder, views, text):
    """The gradient of one text's loss, a vector for each view."""
    (batch,) = make_batches([text], len(text.ids), decoder.device)
    gradients = {}
    LayerGradients(decoder, views).run(batch, gradients.__setitem__)
    return [gradients[number][0] for number in range(len(views))]


def token_by_token(decoder, views, direction, tokens):
    """Each completion token's loss gradient, by plain autograd, times what the direction is in the weights."""
    modules = [view.module for view in views]
    parameters = [module.weight.requires_grad_(True) for module in modules]
    ids = torch.from_numpy(tokens.ids)[None]
    logarithms = torch.log_softmax(decoder.model(input_ids=ids).logits[0].float(), dim=-1)
    shares = []
    for place in range(max(tokens.start, 1), len(tokens.ids)):
        loss = -logarithms[place - 1, tokens.ids[place]]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        total = 0.0
        for view, vector, gradient in zip(views, direction, gradients, strict=True):
            g = gradient if not hasattr(view.module, "nf") else gradient.T  # Conv1D keeps (inputs, outputs)
            seen = g.T if view.right is None else view.right @ g.T
            seen = seen if view.left is None else seen @ view.left.T
            total += view.scale * float((seen * vector.view(view.shape)).sum())
        shares.append(total / tokens.targets)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return torch.tensor(shares)


@pytest.mark.parametrize("kind", VIEWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_shares_are_those_of_the_tokens_gradients(tokenizer, family, kind):
    decoder = tiny_decoder(family, tokenizer)
    views, tokens = VIEWS[kind](decoder), decoder.tokenise(some_examples())
    direction = gradient_of(decoder, views, tokens[0])
    shares = TokenShares(decoder, views, direction)
    found = shares(tokens, token_budget=64)
    assert shares.exact
    for text, share in zip(tokens, found, strict=True):
        expected = token_by_token(decoder, views, direction, text)
        torch.testing.assert_close(share, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_shares_add_up_to_the_influence(tokenizer, family):
    decoder = tiny_decoder(family, tokenizer)
    views, tokens = lora_b(decoder, rank=4, seed=0), decoder.tokenise(some_examples())
    gradients = [torch.cat(gradient_of(decoder, views, text)) for text in tokens]
    direction = gradient_of(decoder, views, tokens[1])
    sums = torch.stack([share.sum() for share in TokenShares(decoder, views, direction)(tokens)])
    influences = torch.stack([gradient @ gradients[1] for gradient in gradients])
    torch.testing.assert_close(sums, influences, rtol=1e-4, atol=1e-4 * float(influences.abs().max()))


def test_differences_are_nearly_the_derivative(decoder):
    views, tokens = lora_b(decoder, rank=4, seed=0), decoder.tokenise(some_examples())
    direction = gradient_of(decoder, views, tokens[2])
    exact, differences = TokenShares(decoder, views, direction), TokenShares(decoder, views, direction)
    differences.exact = False
    for one, other in zip(exact(tokens), differences(tokens), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=5e-3 * float(one.abs().max()))


class NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, delta):
        return delta


def test_model_without_forward_mode_is_differenced(decoder):
    views, tokens = lora_b(decoder, rank=4, seed=0), decoder.tokenise(some_examples())
    direction = gradient_of(decoder, views, tokens[2])
    expected = TokenShares(decoder, views, direction)(tokens)
    norm = decoder.model.model.norm
    handle = norm.register_forward_hook(lambda module, inputs, output: NoForwardMode.apply(output))
    shares = TokenShares(decoder, views, direction)
    found = shares(tokens)
    handle.remove()
    assert not shares.exact
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=5e-3 * float(one.abs().max()))


def test_nothing_is_left_behind(decoder):
    views, tokens = lora_b(decoder, rank=4, seed=0), decoder.tokenise(some_examples())
    before = decoder.model(input_ids=torch.from_numpy(tokens[0].ids)[None]).logits
    usual = decoder.model.config._attn_implementation
    TokenShares(decoder, views, gradient_of(decoder, views, tokens[0]))(tokens)
    assert decoder.model.config._attn_implementation == usual
    after = decoder.model(input_ids=torch.from_numpy(tokens[0].ids)[None]).logits
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_text_without_a_loss_has_no_share(decoder):
    views, tokens = lora_b(decoder, rank=4, seed=0), decoder.tokenise(some_examples())
    none = replace(tokens[0], start=len(tokens[0].ids))
    shares = TokenShares(decoder, views, gradient_of(decoder, views, tokens[0]))([none, tokens[0]])
    assert [len(share) for share in shares] == [0, tokens[0].targets]
