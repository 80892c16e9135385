from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DeepseekV32Config, DeepseekV32ForCausalLM, FalconConfig, FalconForCausalLM

from helpers.tiny import tiny_model
from influcoder.model import attention
from influcoder.model.attention import causal_attention, fast_attention

fused_attention = attention.ALL_ATTENTION_FUNCTIONS["sdpa"]


def layer(heads, shared, causal=True):
    return SimpleNamespace(num_key_value_groups=heads // shared, is_causal=causal)


def tensors(n, heads, shared, length, width, wide=None, dtype=torch.float32, seed=0):
    """Query, key, value, and the gradient at the output."""
    torch.manual_seed(seed)
    shapes = [(n, heads, length, width), (n, shared, length, width), (n, shared, length, wide or width)]
    parts = [2 * torch.randn(shape).to(dtype) for shape in shapes]
    return [part.requires_grad_(True) for part in parts], torch.randn(n, length, heads, wide or width).to(dtype)


def through(function, module, parts, delta, mask=None, **options):
    """The output, and the gradients of query, key and value."""
    parts = [part.detach().clone().requires_grad_(True) for part in parts]
    output, shares = function(module, *parts, mask, **options)
    assert shares is None
    return [output.detach(), *torch.autograd.grad(output, parts, delta.to(output.dtype))]


@pytest.fixture
def fused(monkeypatch):
    """The calls that the fused attention gets."""
    calls = []

    def spy(*arguments, **options):
        calls.append(options)
        return fused_attention(*arguments, **options)

    monkeypatch.setitem(attention.ALL_ATTENTION_FUNCTIONS, "sdpa", spy)
    return calls


def assert_all_close(found, expected, tolerance=1e-5):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert float((one - other).norm()) <= tolerance * (1 + float(other.norm()))


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (6, 2), (4, 1)])
@pytest.mark.parametrize("length", [2, 3, 17, 256])
def test_equals_the_fused_attention_in_fp32(heads, shared, length, fused):
    parts, delta = tensors(3, heads, shared, length, 8)
    module = layer(heads, shared)
    found = through(causal_attention, module, parts, delta, scaling=0.4)
    assert not fused
    assert_all_close(found, through(fused_attention, module, parts, delta, scaling=0.4))


@settings(max_examples=30)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(2, 40), st.integers(1, 9), st.integers(1, 9)
)
def test_equals_attention_in_float64_for_any_shape(n, shared, groups, length, width, wide):
    parts, delta = tensors(n, shared * groups, shared, length, width, wide)
    module = layer(groups * shared, shared)
    found = through(causal_attention, module, parts, delta)
    exact = through(fused_attention, module, [part.double() for part in parts], delta.double())
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("length", "calls"), [(1, 1), (2, 0), (1024, 0), (1025, 1)])
def test_lengths_at_the_ends(length, calls, fused):
    assert attention.LONGEST == 1024
    parts, delta = tensors(1, 2, 1, length, 8)
    module = layer(2, 1)
    found = through(causal_attention, module, parts, delta)
    assert len(fused) == calls
    assert_all_close(found, through(fused_attention, module, parts, delta))


@pytest.mark.parametrize("length", [8, 64, 300])
def test_gradients_are_as_near_to_float64_as_the_fused_attentions_in_bf16(length):
    errors = []
    for seed in range(3):
        parts, delta = tensors(2, 4, 2, length, 16, dtype=torch.bfloat16, seed=seed)
        module = layer(4, 2)
        exact = through(fused_attention, module, [part.double() for part in parts], delta.double())
        both = [through(function, module, parts, delta) for function in (causal_attention, fused_attention)]
        errors.append([[float((a - b).norm() / b.norm()) for a, b in zip(f, exact, strict=True)] for f in both])
    own, usual = torch.tensor(errors).mean(dim=0)
    assert bool((own[1:3] <= usual[1:3]).all()), (own, usual)  # of queries and keys
    assert float(own[1:].norm()) <= float(usual[1:].norm())
    assert float(own[0]) < 2**-8  # half of bfloat16's step, and the shares' rounding


def test_mixed_types_under_autocast():
    """Norms of queries and keys give float32, values are bfloat16."""
    parts, delta = tensors(2, 4, 2, 20, 8)
    mixed = [parts[0], parts[1], parts[2].to(torch.bfloat16)]
    exact = through(fused_attention, layer(4, 2), parts, delta)
    with torch.autocast("cpu", torch.bfloat16):
        found = through(causal_attention, layer(4, 2), mixed, delta)
    assert [one.dtype for one in found] == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    for one, other in zip(found, exact, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.02


def test_no_token_sees_what_follows_it():
    parts, delta = tensors(1, 2, 2, 9, 4)
    changed = [part.detach().clone() for part in parts]
    for part in changed:
        part[:, :, 5:] += 3
    one, other = (through(causal_attention, layer(2, 2), each, delta)[0] for each in (parts, changed))
    assert torch.equal(one[:, :5], other[:, :5])
    assert not torch.equal(one[:, 5:], other[:, 5:])


def a_mask(length):
    near = torch.arange(length)
    return ((near[:, None] >= near) & (near[:, None] - near < 3))[None, None]


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_mask_goes_to_the_fused_attention(kind, fused):
    parts, delta = tensors(2, 4, 2, 9, 8)
    mask = a_mask(9)
    if kind == "float":
        mask = torch.zeros(1, 1, 9, 9).masked_fill(~mask, float("-inf"))
    found = through(causal_attention, layer(4, 2), parts, delta, mask, sliding_window=3)
    assert len(fused) == 1
    assert_all_close(found, through(fused_attention, layer(4, 2), parts, delta, mask))
    assert float((found[0] - through(causal_attention, layer(4, 2), parts, delta)[0]).norm()) > 0.1


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"sliding_window": 100}, 0),
        ({"position_ids": torch.arange(9)[None], "use_cache": False, "output_attentions": False}, 0),
        ({"softcap": None, "s_aux": None, "position_bias": None}, 0),
        ({"is_causal": True}, 0),
        ({"is_causal": False}, 1),
        ({"dropout": 1e-9}, 1),
        ({"position_bias": torch.randn(1, 4, 9, 9, generator=torch.Generator().manual_seed(0))}, 1),
        ({"s_aux": torch.zeros(4)}, 1),
        ({"something_new": 0.0}, 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_what_is_not_known_goes_to_the_fused_attention(options, calls, fused):
    parts, delta = tensors(2, 4, 2, 9, 8)
    found = through(causal_attention, layer(4, 2), parts, delta, **options)
    assert len(fused) == calls
    assert_all_close(found, through(fused_attention, layer(4, 2), parts, delta, **options))


def test_a_layer_that_looks_ahead_goes_to_the_fused_attention(fused):
    parts, delta = tensors(2, 4, 2, 9, 8)
    module = layer(4, 2, causal=False)
    found = through(causal_attention, module, parts, delta)
    assert len(fused) == 1
    assert_all_close(found, through(fused_attention, module, parts, delta))


def test_a_soft_cap_is_not_dropped():
    parts, delta = tensors(2, 4, 2, 9, 8)
    with pytest.raises(ValueError, match="softcap"):  # as the fused attention says
        through(causal_attention, layer(4, 2), parts, delta, softcap=30.0)


# Models


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt-neox", "qwen3"])
def test_models_use_it_and_say_the_same(family, fused):
    model = tiny_model(family)
    ids = torch.arange(40).view(2, 20)
    usual = model(input_ids=ids).logits
    assert fused
    fused.clear()
    with fast_attention(model):
        found = model(input_ids=ids).logits
    assert not fused
    torch.testing.assert_close(found, usual, rtol=1e-4, atol=1e-5)


def test_the_usual_one_is_put_back():
    model, usual = tiny_model("llama"), attention.ALL_ATTENTION_FUNCTIONS["sdpa"]
    with fast_attention(model):
        with fast_attention(model):  # one within another
            assert attention.ALL_ATTENTION_FUNCTIONS["sdpa"] is not usual
        assert attention.ALL_ATTENTION_FUNCTIONS["sdpa"] is not usual
    assert attention.ALL_ATTENTION_FUNCTIONS["sdpa"] is usual
    with pytest.raises(RuntimeError, match="stop"), fast_attention(model):
        raise RuntimeError("stop")
    assert attention.ALL_ATTENTION_FUNCTIONS["sdpa"] is usual


def test_its_name_stays_for_those_who_build_masks_by_it():
    """DeepSeek V3.2 chooses keys, and tells them in a mask only to the attentions whose names it knows."""
    config = DeepseekV32Config(
        **{"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16},
        **{"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4, "first_k_dense_replace": 1},
        **{"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
        **{"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "index_topk": 4, "index_n_heads": 4},
    )
    torch.manual_seed(0)
    model = DeepseekV32ForCausalLM(config).eval()
    ids = torch.arange(40).view(2, 20)
    usual = model(input_ids=ids).logits
    with fast_attention(model):
        torch.testing.assert_close(model(input_ids=ids).logits, usual, rtol=1e-4, atol=1e-5)


def test_eager_models_are_left_alone(monkeypatch):
    model = tiny_model("llama")
    model.set_attn_implementation("eager")
    monkeypatch.setattr(attention, "causal_attention", lambda *args, **options: pytest.fail("called"))
    with fast_attention(model):
        model(input_ids=torch.arange(4)[None])
    assert model.config._attn_implementation == "eager"


def test_other_keys_than_queries_go_to_the_fused_attention(fused):
    (query, _, _), delta = tensors(2, 4, 2, 9, 8)
    (_, key, value), _ = tensors(2, 4, 2, 5, 8)
    module = layer(4, 2)
    found = through(causal_attention, module, [query, key, value], delta, is_causal=False)
    assert len(fused) == 1
    assert_all_close(found, through(fused_attention, module, [query, key, value], delta, is_causal=False))


def test_models_with_an_attention_of_their_own_are_left_alone(caplog):
    config = FalconConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, alibi=True)
    model = FalconForCausalLM(config).eval()
    before = model.config._attn_implementation
    with fast_attention(model):
        assert model.config._attn_implementation == before
    assert not caplog.records
