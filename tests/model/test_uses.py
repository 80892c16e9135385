"""Which weights are linear layers is found by what a model does with them, and what is not understood is refused."""

import re

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from helpers.oracles import exact_copy, lora_gradients, weight_gradients
from helpers.tiny import some_examples, tiny_decoder
from influcoder.errors import ModelError
from influcoder.model.batches import make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.gradients import LayerGradients
from influcoder.model.layers import lora_b, weights
from influcoder.model.linear import linear_layers
from influcoder.model.products import Block


def gradients(decoder, views, budget=10_000):
    """Each view's (examples, numbers) gradients."""
    engine = LayerGradients(decoder, views)
    tokens = decoder.tokenise(some_examples())
    parts = [torch.zeros(len(tokens), length) for length in engine.lengths]
    for batch in make_batches(tokens, engine.budget(budget), decoder.device):

        def receive(number, part, places=batch.places):
            parts[number][places] = part

        engine.run(batch, receive)
    return parts


def assert_equal(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert other.norm() > 0
        assert float((one - other.flatten(1)).norm()) <= tolerance * float(other.norm())


class Odd(nn.Module):
    """Adds something to a linear layer's output, by way of `use(module, x)`."""

    def __init__(self, inner, use, **parts):
        super().__init__()
        self.inner = inner
        self.use = use
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.inner(x) + self.use(self, x)


def with_odd(decoder, use, **parts):
    """The decoder, whose up projections are such."""
    torch.manual_seed(5)
    for layer in decoder.model.model.layers:
        layer.mlp.up_proj = Odd(layer.mlp.up_proj, use, **{name: make() for name, make in parts.items()})
    decoder.model.requires_grad_(False)
    return decoder


def matrix(*shape):
    return lambda: nn.Parameter(torch.randn(shape) / 4)


class NearlyLinear(nn.Linear):
    """As Falcon's."""

    def forward(self, x):
        return x @ self.weight.T + self.bias


class Casting(nn.Linear):
    def forward(self, x):
        return super().forward(x.to(torch.float32)).to(x.dtype) * 2


def grouped(m, x):
    """Two groups of the width, each multiplied with a matrix of its own."""
    return (
        torch.bmm(x.flatten(0, 1).view(-1, 2, 16).transpose(0, 1), m.kernel).transpose(0, 1).reshape(*x.shape[:2], 64)
    )


def heaped(m, x):
    return m.odd(x.flatten(0, 1)).view(*x.shape[:2], 64)


def by_head(m, x):
    return m.odd(x.unflatten(-1, (4, 8))).flatten(2)


def in_halves(m, x):
    return torch.cat([nn.functional.linear(x, half) for half in m.kernel.chunk(2)], -1)


def linear(width=32, out=64):
    return {"odd": lambda: nn.Linear(width, out)}


UNDERSTOOD = {
    "a subclass that adds its bias": (lambda m, x: m.odd(x), {"odd": lambda: NearlyLinear(32, 64)}),
    "a subclass that casts": (lambda m, x: m.odd(x), {"odd": lambda: Casting(32, 64)}),
    "Conv1D": (lambda m, x: m.odd(x), {"odd": lambda: Conv1D(64, 32)}),
    "a matrix of its own": (lambda m, x: nn.functional.linear(x, m.kernel), {"kernel": matrix(64, 32)}),
    "a matrix the other way round": (lambda m, x: x @ m.kernel, {"kernel": matrix(32, 64)}),
    "a matrix that is cast": (lambda m, x: nn.functional.linear(x, m.kernel.float()), {"kernel": matrix(64, 32)}),
    "another module's weight": (lambda m, x: nn.functional.linear(x, m.odd.weight, m.odd.bias), linear()),
    "all tokens in one heap": (heaped, linear()),
    "an axis in between": (lambda m, x: m.odd(x[:, None])[:, 0], linear()),
    "heads, each by itself": (by_head, linear(8, 16)),
    "time first": (lambda m, x: m.odd(x.transpose(0, 1)).transpose(0, 1), linear()),
    "changed in place": (lambda m, x: m.odd(x).clamp_(-0.1, 0.1), linear()),
    "one of several in a tensor": (lambda m, x: x @ m.kernel[0] + x @ m.kernel[2], {"kernel": matrix(3, 32, 64)}),
    "groups": (grouped, {"kernel": matrix(2, 16, 32)}),
    "used in both halves": (in_halves, {"kernel": matrix(64, 32)}),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_whatever_multiplies_is_a_layer(case, decoder):
    use, parts = UNDERSTOOD[case]
    with_odd(decoder, use, **parts)
    views = weights(decoder)
    assert sum("inner" not in view.name and "up_proj" in view.name for view in views) >= 2
    expected = weight_gradients(decoder, views, decoder.tokenise(some_examples()), dtype=torch.float32)
    if case == "one of several in a tensor":  # the second takes no part
        views, expected = zip(
            *[(v, e) for v, e in zip(views, expected, strict=True) if not v.name.endswith("[1]")], strict=True
        )
    assert_equal(gradients(decoder, views), expected, 1e-4)


ELSEWHERE = {
    "the weight on the left (Mamba)": lambda m, x: (m.odd.weight @ x.transpose(1, 2)).transpose(1, 2),
    "einsum": lambda m, x: torch.einsum("nti,oi->nto", x, m.odd.weight),
    "a product with what is made of it": lambda m, x: nn.functional.linear(x, m.odd.weight * 2),
    "a part of it": lambda m, x: nn.functional.pad(nn.functional.linear(x, m.odd.weight[:40]), (0, 24)),
    "code that cannot be looked into": lambda m, x: Hidden.apply(x, m.odd.weight),
    "called, and used elsewhere as well": lambda m, x: m.odd(x) + torch.einsum("nti,oi->nto", x, m.odd.weight),
    "called, and added": lambda m, x: m.odd(x) + m.odd.weight.T[0],
}


class Hidden(torch.autograd.Function):
    """As kernels do."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return torch.from_numpy(x.detach().numpy() @ weight.detach().numpy().T)

    @staticmethod
    def backward(ctx, delta):
        x, weight = ctx.saved_tensors
        return delta @ weight, torch.einsum("nto,nti->oi", delta, x)


@pytest.mark.parametrize("case", ELSEWHERE)
@pytest.mark.parametrize("modules", [None, "*_proj* *odd*"])
def test_what_is_not_understood_is_refused_by_name_and_the_remedy_works(case, modules, decoder):
    with_odd(decoder, ELSEWHERE[case], odd=lambda: nn.Linear(32, 64))
    with pytest.raises(ModelError, match=r"layer model\.layers\.0\.mlp\.up_proj\.odd is .*--modules") as caught:
        lora_b(decoder, rank=2, seed=0, modules=modules)
    remedy = re.search(r"--modules (.*)$", str(caught.value)).group(1).replace("'", "")
    assert remedy == " ".join([*(modules or "").split(), "!*.odd"])
    views = lora_b(decoder, rank=2, seed=0, modules=remedy)
    assert len(views) == 14
    assert_equal(gradients(decoder, views), lora_gradients(decoder, views, decoder.tokenise(some_examples())), 1e-4)


def test_what_scales_or_shifts_token_by_token_is_no_linear_layer(decoder):
    parts = {
        "scale": matrix(1, 64),
        "rates": matrix(64, 3),
        "short": lambda: nn.Conv1d(64, 64, 3, groups=64, padding=2),
    }

    def use(m, x):
        wide = torch.cat([x, x], -1)
        filtered = m.short(wide.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        return filtered * m.scale + (wide[..., None] * torch.exp(-m.rates)).sum(-1)

    with_odd(decoder, use, **parts)
    views = weights(decoder)
    assert not [view.name for view in views if "up_proj" in view.name and "inner" not in view.name]
    expected = weight_gradients(decoder, views, decoder.tokenise(some_examples()), dtype=torch.float32)
    assert_equal(gradients(decoder, views), expected, 1e-4)


def test_a_convolution_across_channels_is_refused(decoder):
    with_odd(
        decoder,
        lambda m, x: m.odd(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2),
        odd=lambda: nn.Conv1d(32, 64, 2, padding=1),
    )
    with pytest.raises(ModelError, match=r"up_proj\.odd is used in 'conv1d'.*--modules '!\*\.odd'"):
        weights(decoder)


def test_a_weight_that_several_modules_share_is_one_layer(decoder):
    first, second = decoder.model.model.layers
    second.mlp.down_proj.weight = first.mlp.down_proj.weight
    views = weights(decoder)
    assert len(views) == 13
    (shared,) = (view for view in views if "down_proj" in view.name)
    assert isinstance(shared.module, Block)
    model = exact_copy(decoder.model, torch.float32)
    assert model.model.layers[0].mlp.down_proj.weight is model.model.layers[1].mlp.down_proj.weight
    assert_equal(gradients(decoder, views), weight_gradients(decoder, views, decoder.tokenise(some_examples())))


def test_a_layer_that_text_does_not_reach_has_no_gradient(decoder):
    decoder.model.model.tower = nn.ModuleList([nn.Linear(5, 7), nn.Conv2d(3, 4, 2)])
    views = weights(decoder)
    assert [view.name for view in views if "tower" in view.name] == ["model.tower.0.weight"]
    for view, part in zip(views, gradients(decoder, views), strict=True):
        assert bool(part.any()) == ("tower" not in view.name)


def test_a_packed_layer_that_is_never_called_is_refused(decoder):
    packed = type("Linear4bit", (nn.Linear,), {})(32, 64)
    decoder.model.model.layers[0].mlp.spare = packed
    with pytest.raises(ModelError, match=r"layer model\.layers\.0\.mlp\.spare is never called.*'!\*\.spare'"):
        linear_layers(decoder.model)
    assert len(linear_layers(decoder.model, "!*.spare")) == 14


class Packed(nn.Module):
    """As of GPTQ: whole numbers in buffers."""

    def __init__(self, layer):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.step = float(layer.weight.detach().abs().max() / 7)
        self.register_buffer("qweight", (layer.weight.detach() / self.step).round().to(torch.int8))

    def forward(self, x):
        return nn.functional.linear(x, self.qweight.to(x.dtype) * self.step)


def test_layers_packed_by_any_library_are_seen_when_they_are_called(decoder):
    plain = Decoder(exact_copy(decoder.model, torch.float32), decoder.tokenizer, name="plain")
    for one, other in zip(decoder.model.model.layers, plain.model.model.layers, strict=True):
        one.mlp.up_proj = Packed(one.mlp.up_proj)
        other.mlp.up_proj.weight.data = one.mlp.up_proj.qweight * one.mlp.up_proj.step
    views = lora_b(decoder, rank=4, seed=0)
    assert len(views) == 14
    expected = lora_gradients(plain, lora_b(plain, rank=4, seed=0), plain.tokenise(some_examples()))
    assert_equal(gradients(decoder, views), expected)


def test_a_model_that_does_not_run_on_tokens_alone_is_refused_by_name(tokenizer):
    decoder = tiny_decoder("llama", tokenizer)
    decoder.model.model.layers[0].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(ValueError("no picture")))
    with pytest.raises(ModelError, match="LlamaForCausalLM cannot be run on tokens alone: no picture"):
        lora_b(decoder, rank=2, seed=0)
