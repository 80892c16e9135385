import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from helpers.oracles import explicit
from helpers.tiny import FAMILIES, save_adapter, save_decoder, tiny_decoder, tiny_model, tiny_tokenizer
from influcoder.errors import ConfigError, ModelError
from influcoder.model.decoder import Decoder
from influcoder.model.layers import View, _orthogonal, adapter, lora_b, two_sided, weights
from influcoder.model.linear import inputs, linear_layers, outputs

SEEDS = 400


@pytest.fixture(params=FAMILIES)
def family_decoder(request, tokenizer):
    return tiny_decoder(request.param, tokenizer)


# Which layers


def test_head_and_embeddings_are_left_out(family_decoder):
    model = family_decoder.model
    layers = linear_layers(model)
    assert not {model.get_output_embeddings(), model.get_input_embeddings()} & set(layers.values())
    expected = (
        [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not model.lm_head]
        if (hasattr(model, "lm_head"))
        else [m for m in model.modules() if isinstance(m, nn.Linear) and m is not model.embed_out]
    )
    assert list(layers.values()) == expected
    assert all(model.get_submodule(name) is module for name, module in layers.items())


def test_sizes_are_those_of_the_products(family_decoder):
    for module in linear_layers(family_decoder.model).values():
        assert module(torch.zeros(1, inputs(module))).shape == (1, outputs(module))


def test_norms_and_embeddings_are_nothing_to_refuse(decoder):
    decoder.model.model.places = nn.Embedding(4, 32)
    decoder.model.model.layers[0].extra = nn.LayerNorm(32)
    assert len(weights(decoder)) == 14


@pytest.mark.parametrize("make", [lora_b, two_sided])
def test_every_kind_of_view_takes_a_pattern(decoder, make):
    assert [view.name for view in make(decoder, rank=2, seed=0, modules="*1.mlp.up*")] == ["model.layers.1.mlp.up_proj"]
    assert [view.name for view in weights(decoder, modules="*1.mlp.up*")] == ["model.layers.1.mlp.up_proj.weight"]


@pytest.mark.parametrize("pattern", ["nothing", "", "MODEL.*", "lm_head", "model.embed_tokens", "mlp"])
def test_pattern_that_matches_no_layer(decoder, pattern):
    with pytest.raises(ModelError, match=r"--modules '.*'; names look like 'model\.layers\.0\.self_attn\.q_proj'"):
        linear_layers(decoder.model, pattern)


def test_model_without_linear_layers_is_refused(decoder):
    decoder.model.model.layers = nn.ModuleList()
    with pytest.raises(ModelError, match="no linear layer"):
        linear_layers(decoder.model)


@pytest.mark.parametrize("name", ["Linear4bit", "Linear8bitLt"])
def test_quantised_layers_are_known_by_name(decoder, name):
    packed = type(name, (nn.Linear,), {})(32, 64)
    decoder.model.model.layers[0].mlp.up_proj = packed
    assert linear_layers(decoder.model)["model.layers.0.mlp.up_proj"] is packed


# Adapters


def test_no_adapter(decoder):
    with pytest.raises(ConfigError, match=r"without a plain LoRA adapter"):
        adapter(decoder)


def test_adapter_on_other_layers_than_those_looked_at(tokenizer, tmp_path):
    base = save_decoder(tmp_path / "base", tokenizer)
    saved = save_adapter(tmp_path / "adapter", "llama", r=2, target_modules=["q_proj"])
    decoder = Decoder.load(base, adapter=saved, device="cpu")
    assert len(adapter(decoder)) == 4
    assert len(adapter(decoder, modules="*.0.*")) == 2
    with pytest.raises(ConfigError, match="on none of the layers"):
        adapter(decoder, modules="*mlp*")


# Shapes and scales


@pytest.mark.parametrize("rank", [1, 3, 40])
def test_shapes(family_decoder, rank):
    sizes = [(inputs(module), outputs(module)) for module in linear_layers(family_decoder.model).values()]
    assert [view.shape for view in weights(family_decoder)] == sizes
    assert [view.shape for view in lora_b(family_decoder, rank=rank, seed=0)] == [(rank, out) for _, out in sizes]
    two = two_sided(family_decoder, rank=rank, seed=0)
    assert {view.shape for view in two} == {(rank, rank)}
    assert {view.length for view in two} == {rank * rank}


def test_scale_is_alpha_over_rank(decoder):
    assert {view.scale for view in lora_b(decoder, rank=4, seed=0)} == {2.0}
    assert {view.scale for view in lora_b(decoder, rank=4, seed=0, alpha=3)} == {0.75}


# Random sides


def test_a_has_the_variance_of_peft(decoder):
    for view in lora_b(decoder, rank=256, seed=0):
        assert float(view.right.var() * view.right.shape[1] * 3) == pytest.approx(1, rel=0.1)


@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 2**70))
def test_rows_are_orthogonal_in_blocks(columns, rank, seed):
    a = _orthogonal(columns, rank, seed, 0, torch.device("cpu"))
    assert a.shape == (rank, columns)
    for block in a.split(columns):
        torch.testing.assert_close(block @ block.T, torch.eye(len(block)) / 3, rtol=1e-4, atol=1e-5)


def test_a_favours_no_direction(decoder):
    first = torch.stack([_orthogonal(32, 2, seed, 0, decoder.device)[0] for seed in range(200)])
    assert float((first.mean(dim=0) / first.std(dim=0)).abs().max()) < 4 / 200**0.5


def same(one: list[View], other: list[View]):
    sides = [(view.right, view.left) for view in one], [(view.right, view.left) for view in other]
    return all(
        torch.equal(a, b)
        for left, right in zip(*sides, strict=True)
        for a, b in zip(left, right, strict=True)
        if a is not None
    )


@pytest.mark.parametrize("make", [lora_b, two_sided])
def test_the_seed_decides(make, tokenizer):
    one, other = tiny_decoder("llama", tokenizer), tiny_decoder("llama", tokenizer, seed=5)
    torch.manual_seed(11)
    first = make(one, rank=4, seed=3)
    torch.manual_seed(12)
    assert same(first, make(other, rank=4, seed=3))
    assert not same(first, make(one, rank=4, seed=4))
    sides = [side for view in first for side in (view.right, view.left) if side is not None]
    for number, side in enumerate(sides):  # no two layers, and no two sides, share theirs
        assert not any(side.shape == later.shape and torch.equal(side, later) for later in sides[number + 1 :])


# Inner products


@pytest.fixture(scope="module")
def layers():
    """A decoder, and two correlated raw gradients of each layer."""
    decoder = SimpleNamespace(model=tiny_model("llama", layers=1), device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    raw = []
    for view in weights(decoder):
        one, other = torch.randn(2, 1, *view.shape, generator=generator)
        raw.append(torch.cat([one, one + other]))
    return decoder, raw


def products(decoder, raw, make):
    """(seeds, layers) inner products of the two gradients as `make(decoder, seed)` sees them."""
    rows = []
    for seed in range(SEEDS):
        seen = [explicit(view, one) for view, one in zip(make(decoder, seed), raw, strict=True)]
        rows.append([float(one @ other) for one, other in seen])
    return torch.tensor(rows, dtype=torch.float64)


def assert_mean_is_one(ratios):
    error = ratios.std(dim=0) / len(ratios) ** 0.5
    assert bool(((ratios.mean(dim=0) - 1).abs() <= 4 * error + 1e-5).all())
    assert float(error.max()) < 0.15  # so that it says something


@pytest.mark.parametrize("rank", [1, 4, 48])
def test_two_sided_keeps_inner_products_whatever_the_shape(layers, rank):
    decoder, raw = layers
    exact = torch.stack([(one * other).sum().double() for one, other in raw])
    found = products(decoder, raw, lambda decoder, seed: two_sided(decoder, rank=rank, seed=seed))
    assert_mean_is_one(found / exact)
    assert_mean_is_one(found.sum(dim=1, keepdim=True) / exact.sum())


@pytest.mark.parametrize("rank", [1, 4, 48])
def test_lora_b_keeps_inner_products_up_to_a_known_factor(layers, rank):
    decoder, raw = layers
    exact = torch.stack([(one * other).sum().double() for one, other in raw])
    factors = torch.tensor([4 * rank / (3 * inputs(view.module)) for view in weights(decoder)])
    found = products(decoder, raw, lambda decoder, seed: lora_b(decoder, rank=rank, seed=seed))
    assert_mean_is_one(found / (exact * factors))


def test_orthogonal_rows_vary_less_than_independent_ones(layers):
    decoder, raw = layers
    found = products(decoder, raw, lambda decoder, seed: lora_b(decoder, rank=16, seed=seed))
    generator = torch.Generator().manual_seed(1)

    def independent(decoder, seed):
        draws = [torch.randn(16, inputs(v.module), generator=generator) for v in weights(decoder)]
        return [
            View(v.name, v.module, right=a / math.sqrt(3 * a.shape[1]), scale=2.0)
            for v, a in zip(weights(decoder), draws, strict=True)
        ]

    assert bool((found.var(dim=0) < products(decoder, raw, independent).var(dim=0)).all())


def test_families_are_all_made_of_layers_that_are_understood():
    tokenizer = tiny_tokenizer()
    for family in FAMILIES:
        assert {type(view.module) for view in weights(tiny_decoder(family, tokenizer))} <= {nn.Linear, Conv1D}
