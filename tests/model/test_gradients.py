import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from helpers.oracles import (
    adapter_parts,
    exact_copy,
    explicit,
    fresh_lora,
    lora_gradients,
    loss,
    parameter_gradients,
    weight_gradients,
)
from helpers.tiny import (
    FAMILIES,
    KINDS,
    VOCABULARY,
    save_adapter,
    save_decoder,
    some_examples,
    tiny_decoder,
    tiny_kind,
    tiny_model,
    tiny_tokenizer,
)
from influcoder.data.examples import Example
from influcoder.errors import ModelError
from influcoder.model import attention, gradients
from influcoder.model.batches import Tokens, make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.gradients import Backward, LayerGradients
from influcoder.model.layers import View, adapter, lora_b, two_sided, weights
from influcoder.model.linear import linear_layers
from influcoder.model.loss import margin

CPU = torch.device("cpu")
FUSED = attention.ALL_ATTENTION_FUNCTIONS["sdpa"]
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
MOE = SMALL | {"moe_intermediate_size": 12, "num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4}


def decoder_of(kind, model, tokenizer):
    torch.manual_seed(0)
    return Decoder(model(kind), tokenizer, name="tiny", max_length=96)


def view_parts(decoder, views, tokens, budget=10_000, **options):
    """Each view's (examples, numbers) gradients and the (examples,) losses."""
    engine = LayerGradients(decoder, views, **options)
    parts = [torch.full((len(tokens), length), float("nan")) for length in engine.lengths]
    losses = torch.zeros(len(tokens))
    for batch in make_batches(tokens, engine.budget(budget), CPU):

        def receive(number, part, places=batch.places):
            assert part.dtype == torch.float32
            assert parts[number][places].isnan().all(), "received twice"
            parts[number][places] = part

        losses[batch.places] = engine.run(batch, receive)
    return parts, losses


def all_gradients(decoder, views, tokens, budget=10_000, **options):
    """((examples, numbers) gradients, (examples,) losses)."""
    parts, losses = view_parts(decoder, views, tokens, budget, **options)
    return torch.cat(parts, dim=1), losses


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def assert_each_close(views, found, expected, tolerance=1e-5):
    """Every view of every example has to be right, not just the long ones."""
    for view, one, other in zip(views, found, expected, strict=True):
        assert other.norm() > 0, view.name
        for example, (row, reference) in enumerate(zip(one, other.flatten(1), strict=True)):
            assert relative_error(row, reference) <= tolerance, (view.name, example)


@pytest.fixture(params=FAMILIES)
def family_decoder(request, tokenizer):
    return tiny_decoder(request.param, tokenizer)


@pytest.fixture(params=KINDS)
def any_decoder(request, tokenizer):
    return Decoder(tiny_kind(request.param), tokenizer, name=request.param, max_length=96)


# One by one


def test_lora_b_is_the_gradient_of_peft_layers(any_decoder):
    views = lora_b(any_decoder, rank=4, seed=3)
    tokens = any_decoder.tokenise(some_examples())
    found, _ = view_parts(any_decoder, views, tokens)
    assert_each_close(views, found, lora_gradients(any_decoder, views, tokens))


def test_weights_are_the_gradient_of_the_weights(any_decoder):
    views = weights(any_decoder)
    tokens = any_decoder.tokenise(some_examples())
    found, _ = view_parts(any_decoder, views, tokens)
    assert_each_close(views, found, weight_gradients(any_decoder, views, tokens))


def test_two_sided_is_the_gradient_of_the_weights_between_two_projections(any_decoder):
    views = two_sided(any_decoder, rank=5, seed=2)
    tokens = any_decoder.tokenise(some_examples())
    found, _ = view_parts(any_decoder, views, tokens)
    raw = weight_gradients(any_decoder, views, tokens)
    assert_each_close(views, found, [explicit(view, one) for view, one in zip(views, raw, strict=True)])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rslora", [False, True])
def test_adapter_is_the_gradient_of_a_trained_peft_adapter(family, rslora, tokenizer, tmp_path):
    base = save_decoder(tmp_path / "base", tokenizer, family)
    names = list(linear_layers(tiny_model(family)))
    own = {"alpha_pattern": {names[0]: 9}, "rank_pattern": {names[1]: 2}}
    saved = save_adapter(
        tmp_path / "adapter", family, r=3, lora_alpha=5, target_modules=names, use_rslora=rslora, **own
    )
    decoder = Decoder.load(base, adapter=saved, device="cpu")
    views = adapter(decoder)
    assert [view.name for view in views] == [f"{name}.lora_{part}" for name in names for part in "AB"]
    tokens = decoder.tokenise(some_examples())
    found, losses = view_parts(decoder, views, tokens)
    model = PeftModel.from_pretrained(exact_copy(tiny_model(family)), saved, is_trainable=True).double().eval()
    expected = parameter_gradients(model, adapter_parts(model, [view.name for view in views]), tokens)
    assert_each_close(views, found, expected, 1e-4)
    own = torch.stack([loss(model, one) for one in tokens]).detach()
    torch.testing.assert_close(losses.double(), own, rtol=1e-5, atol=1e-6)


def test_adapter_on_some_layers_only(tokenizer, tmp_path):
    base = save_decoder(tmp_path / "base", tokenizer)
    saved = save_adapter(tmp_path / "adapter", "llama", r=2, target_modules=["q_proj", "down_proj"])
    decoder = Decoder.load(base, adapter=saved, device="cpu")
    names = [f"model.layers.{n}.{layer}" for n in (0, 1) for layer in ("self_attn.q_proj", "mlp.down_proj")]
    assert [view.name for view in adapter(decoder)] == [f"{name}.lora_{part}" for name in names for part in "AB"]


def test_logits_that_are_scaled_after_the_head(tokenizer):
    model = GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=0.25))
    decoder = Decoder(model, tokenizer, name="granite", max_length=96)
    views, tokens = lora_b(decoder, rank=4, seed=0), decoder.tokenise(some_examples())
    found, losses = view_parts(decoder, views, tokens)
    assert_each_close(views, found, lora_gradients(decoder, views, tokens))
    torch.testing.assert_close(losses, torch.stack([loss(decoder.model, one) for one in tokens]))


# Losses


def test_losses_are_the_models_own(any_decoder):
    tokens = any_decoder.tokenise(some_examples())
    _, losses = all_gradients(any_decoder, lora_b(any_decoder, rank=2, seed=0), tokens)
    for one, found in zip(tokens, losses, strict=True):
        ids = torch.from_numpy(one.ids)[None]
        labels = ids.clone()
        labels[:, : max(one.start, 1)] = -100
        own = any_decoder.model(input_ids=ids, labels=labels).loss
        torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-6)


def test_losses_of_very_unlikely_texts(decoder):
    decoder.model.lm_head.weight.data *= 400
    tokens = decoder.tokenise(some_examples())
    _, losses = all_gradients(decoder, lora_b(decoder, rank=2, seed=0), tokens)
    expected = torch.stack([loss(decoder.model, one) for one in tokens])
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)


def margin_loss(model, tokens):
    """Mean over the completion tokens of -log(p / (1 - p))."""
    ids = torch.from_numpy(tokens.ids)
    first = max(tokens.start, 1)
    shares = torch.softmax(model(input_ids=ids[None]).logits[0, first - 1 : -1], -1)
    p = shares[torch.arange(len(shares)), ids[first:]]
    return -(p / (1 - p)).log().mean()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "granite"])
def test_margin_loss_is_differentiated_when_asked_for(kind, tokenizer):
    if kind == "granite":  # logits beyond a plain head
        model = GraniteForCausalLM(GraniteConfig(**SMALL, logits_scaling=0.25))
        decoder = Decoder(model, tokenizer, name=kind, max_length=96)
    else:
        decoder = tiny_decoder(kind, tokenizer)
    views, tokens = weights(decoder), decoder.tokenise(some_examples())
    found, losses = view_parts(decoder, views, tokens, loss=margin)
    assert_each_close(views, found, weight_gradients(decoder, views, tokens, margin_loss))
    torch.testing.assert_close(losses, torch.stack([loss(decoder.model, one) for one in tokens]))


@pytest.mark.parametrize("options", [{}, {"loss": margin}, {"bf16": True}])
def test_logits_a_few_at_a_time_change_nothing(family_decoder, monkeypatch, options):
    texts = [Example(f"{n}", "", f"{n} and {n + 1} " * 8) for n in range(6)]
    tokens, views = family_decoder.tokenise(texts), lora_b(family_decoder, rank=3, seed=0)
    whole, losses = all_gradients(family_decoder, views, tokens, **options)
    monkeypatch.setattr(gradients, "LOGITS_AT_ONCE", 1)
    (batch,) = make_batches(tokens, 10_000, CPU)
    assert len(batch.rows) > 3 * 64
    parts, losses_of_parts = all_gradients(family_decoder, views, tokens, **options)
    assert relative_error(parts, whole) <= (1e-2 if options.get("bf16") else 1e-5)
    torch.testing.assert_close(losses_of_parts, losses)


# Batches


@pytest.mark.parametrize("budget", [1, 30, 60, 10_000])
def test_batch_composition_and_padding_change_nothing(any_decoder, budget):
    views = [*lora_b(any_decoder, rank=3, seed=1), *two_sided(any_decoder, rank=2, seed=1)]
    tokens = any_decoder.tokenise(some_examples())
    alone = torch.cat([all_gradients(any_decoder, views, [one])[0] for one in tokens])
    together, _ = all_gradients(any_decoder, views, tokens, budget)
    for one, other in zip(together, alone, strict=True):
        assert relative_error(one, other) <= 1e-5


def test_a_whole_is_its_first_part_and_the_rest(family_decoder):
    tokens = family_decoder.tokenise([Example(f"{n}", "of " * (n % 7), f"{n} " * (1 + n % 5)) for n in range(24)])
    views = lora_b(family_decoder, rank=3, seed=1)
    whole, losses = all_gradients(family_decoder, views, tokens, 100)
    parts = [all_gradients(family_decoder, views, part, 100) for part in (tokens[:7], tokens[7:])]
    torch.testing.assert_close(torch.cat([part for part, _ in parts]), whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.cat([part for _, part in parts]), losses)


def test_order_changes_nothing(family_decoder):
    views = lora_b(family_decoder, rank=3, seed=1)
    tokens = family_decoder.tokenise(some_examples())
    forwards, losses = all_gradients(family_decoder, views, tokens, 60)
    backwards, losses_backwards = all_gradients(family_decoder, views, tokens[::-1], 60)
    torch.testing.assert_close(backwards.flip(0), forwards, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(losses_backwards.flip(0), losses)


@pytest.mark.parametrize("bf16", [False, True])
def test_the_same_batch_twice_gives_the_same_numbers(family_decoder, bf16):
    tokens = family_decoder.tokenise(some_examples())
    first, second = (
        all_gradients(family_decoder, lora_b(family_decoder, rank=3, seed=1), tokens, bf16=bf16)[0] for _ in range(2)
    )
    assert torch.equal(first, second)


# Which tokens


@pytest.mark.parametrize("start", [0, 1, 4, 9])
def test_only_completion_tokens_carry_loss(decoder, start):
    views = lora_b(decoder, rank=4, seed=0)
    ids = decoder.tokenise([Example("a", "", "The capital of France is Paris, and more")])[0].ids
    found, losses = view_parts(decoder, views, [Tokens(ids, start)])
    assert_each_close(views, found, lora_gradients(decoder, views, [Tokens(ids, start)]))
    logits = decoder.model(input_ids=torch.from_numpy(ids)[None]).logits[0]
    each = [-torch.log_softmax(logits[place - 1], 0)[ids[place]] for place in range(max(start, 1), len(ids))]
    torch.testing.assert_close(losses[0], torch.stack(each).mean(), rtol=1e-5, atol=1e-6)


def test_another_prompt_length_gives_another_gradient(decoder):
    ids = decoder.tokenise([Example("a", "", "The capital of France is Paris")])[0].ids
    found, _ = all_gradients(decoder, lora_b(decoder, rank=4, seed=0), [Tokens(ids, 2), Tokens(ids, len(ids) - 1)])
    assert relative_error(found[0], found[1]) > 0.1


def test_a_gradient_is_the_mean_of_its_tokens_gradients(family_decoder):
    views = weights(family_decoder)
    (whole,) = family_decoder.tokenise([Example("a", "The capital of ", "France is Paris")])
    each = [Tokens(whole.ids[: place + 1], place) for place in range(whole.start, len(whole.ids))]
    found, _ = all_gradients(family_decoder, views, [whole, *each])
    assert len(each) == whole.targets > 3
    assert relative_error(found[1:].mean(dim=0), found[0]) <= 1e-5


def test_a_truncated_example_has_the_gradient_of_what_is_left(tokenizer):
    long, short = tiny_decoder("llama", tokenizer), tiny_decoder("llama", tokenizer, max_length=20)
    example = [Example("a", "The capital of France, and that of Italy, and what else is there: ", "Paris")]
    (whole,), (cut,) = long.tokenise(example), short.tokenise(example)
    assert cut.prompt_cut
    gone = len(whole.ids) - 20
    by_hand = Tokens(whole.ids[gone:], whole.start - gone)
    views = weights(long)
    found, _ = view_parts(short, weights(short), [cut])
    assert_each_close(views, found, weight_gradients(long, views, [by_hand]))


# Views


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def raw(request):
    decoder = tiny_decoder(request.param, tiny_tokenizer())
    tokens = decoder.tokenise(some_examples()[:3])
    return decoder, tokens, weight_gradients(decoder, weights(decoder), tokens)


sides = st.one_of(st.none(), st.integers(1, 70))


@settings(max_examples=25)
@given(right=sides, left=sides, scale=st.floats(-8, 8).filter(lambda s: abs(s) > 1e-3), seed=st.integers(0, 2**20))
def test_a_view_is_the_raw_gradient_between_its_sides(raw, right, left, scale, seed):
    decoder, tokens, expected = raw
    generator = torch.Generator().manual_seed(seed)
    views = []
    for whole in weights(decoder):
        made = (
            None if rank is None else torch.randn(rank, size, generator=generator)
            for rank, size in zip((right, left), whole.shape, strict=True)
        )
        views.append(View(whole.name, whole.module, *made, scale=scale))
    found, _ = view_parts(decoder, views, tokens)
    assert [part.shape[1] for part in found] == [view.length for view in views]
    for view, part, one in zip(views, found, expected, strict=True):
        size = abs(scale) * one.flatten(1).norm(dim=1)
        for side in (view.right, view.left):
            size = size * (1 if side is None else side.norm())
        assert bool(((part - explicit(view, one)).norm(dim=1) <= 1e-5 * size).all())


def test_views_of_one_layer_do_not_touch_each_other(decoder):
    tokens = decoder.tokenise(some_examples())
    sets = [weights(decoder), lora_b(decoder, rank=2, seed=0), two_sided(decoder, rank=3, seed=0)]
    mixed = [view for group in zip(*sets, strict=True) for view in reversed(group)]
    together, _ = view_parts(decoder, mixed, tokens)
    for offset, views in enumerate(reversed(sets)):
        for one, other in zip(together[offset::3], view_parts(decoder, views, tokens)[0], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_alpha_scales_the_gradient(decoder):
    tokens = decoder.tokenise(some_examples())
    usual, _ = all_gradients(decoder, lora_b(decoder, rank=4, seed=0), tokens)
    halved, _ = all_gradients(decoder, lora_b(decoder, rank=4, seed=0, alpha=4), tokens)
    torch.testing.assert_close(halved * 2, usual)


@pytest.mark.parametrize("kind", KINDS)
def test_every_view_is_received_once(kind, tokenizer):
    decoder = Decoder(tiny_kind(kind), tokenizer, name=kind)
    engine = LayerGradients(decoder, lora_b(decoder, rank=4, seed=0))
    (batch,) = make_batches(decoder.tokenise(some_examples()[:2]), 1000, CPU)
    received = []
    engine.run(batch, lambda view, part: received.append(view))
    assert sorted(received) == list(range(len(engine.views)))


def test_a_layer_that_is_not_used_has_no_gradient(decoder):
    decoder.model.model.layers[0].spare = nn.Linear(5, 7)
    views, tokens = weights(decoder), decoder.tokenise(some_examples())
    found, _ = view_parts(decoder, views, tokens)
    for view, part in zip(views, found, strict=True):
        assert bool(part.any()) == ("spare" not in view.name)
        assert part.shape == (len(tokens), view.length)


# Hooks and weights


def state(model):
    return {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict(keep_vars=True).items()}


def assert_untouched(model, before):
    after = state(model)
    assert after.keys() == before.keys()
    for name, (place, tensor) in after.items():
        assert (place, tensor.dtype) == (before[name][0], before[name][1].dtype)
        assert torch.equal(tensor, before[name][1]), name
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(type(parameter) is nn.Parameter for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert attention.ALL_ATTENTION_FUNCTIONS["sdpa"] is FUSED


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("failure", [None, "receive", "forward"])
def test_the_model_is_left_as_it_was(any_decoder, bf16, failure, monkeypatch):
    model = any_decoder.model
    before = state(model)
    engine = LayerGradients(any_decoder, lora_b(any_decoder, rank=2, seed=0), bf16=bf16)
    (batch,) = make_batches(any_decoder.tokenise(some_examples()[:1]), 100, CPU)
    seen = []

    def receive(view, part):
        seen.append((engine.views[view].module.weight.dtype, attention.ALL_ATTENTION_FUNCTIONS["sdpa"] is FUSED))
        if failure == "receive":
            raise RuntimeError("stop")

    if failure == "forward":
        last = engine.views[-1].module
        monkeypatch.setattr(last, "forward", lambda x: (_ for _ in ()).throw(RuntimeError("stop")))
    if failure is None:
        engine.run(batch, receive)
    else:
        with pytest.raises(RuntimeError, match="stop"):
            engine.run(batch, receive)
    if failure != "forward":
        assert seen[0] == (torch.bfloat16 if bf16 else torch.float32, False)
    assert_untouched(model, before)


def test_bf16_is_near_fp32(any_decoder):
    views, tokens = lora_b(any_decoder, rank=4, seed=0), any_decoder.tokenise(some_examples())
    exact, losses = all_gradients(any_decoder, views, tokens)
    rough, rough_losses = all_gradients(any_decoder, views, tokens, bf16=True)
    assert not torch.equal(exact, rough)
    assert bool((torch.cosine_similarity(exact, rough) > 0.99).all())
    torch.testing.assert_close(rough.norm(dim=1), exact.norm(dim=1), rtol=0.03, atol=0)
    torch.testing.assert_close(rough_losses, losses, rtol=0.02, atol=0)


def test_a_model_stored_in_bf16(tokenizer):
    exact = tiny_decoder("llama", tokenizer)
    decoder = tiny_decoder("llama", tokenizer)
    decoder.model.to(torch.bfloat16)
    tokens = exact.tokenise(some_examples())
    expected, _ = all_gradients(exact, lora_b(exact, rank=4, seed=0), tokens)
    found, _ = all_gradients(decoder, lora_b(decoder, rank=4, seed=0), tokens)
    assert bool((torch.cosine_similarity(expected, found) > 0.99).all())


class Linear4bit(nn.Module):
    """As bitsandbytes' layer: packed bytes that are made numbers again when they are used."""

    def __init__(self, layer):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.step = float(layer.weight.detach().abs().max() / 7)
        codes = (layer.weight.detach() / self.step).round().to(torch.int8) + 8
        flat = codes.flatten().to(torch.uint8)
        self.weight = nn.Parameter((flat[::2] * 16 + flat[1::2])[:, None], requires_grad=False)
        self.bias = None

    def numbers(self):
        assert self.weight.dtype == torch.uint8, "only bytes can be unpacked"
        codes = torch.stack([self.weight[:, 0] // 16, self.weight[:, 0] % 16], 1).view(self.out_features, -1)
        return (codes.float() - 8) * self.step

    def forward(self, x):
        return nn.functional.linear(x, self.numbers().to(x.dtype)).to(x.dtype)


def quantised(model):
    """(a model with 4-bit layers, the same model with the very numbers that they hold)"""
    plain = exact_copy(model, torch.float32)
    for name, layer in linear_layers(model).items():
        parent, _, child = name.rpartition(".")
        packed = Linear4bit(layer)
        setattr(model.get_submodule(parent), child, packed)
        plain.get_submodule(name).weight.data = packed.numbers()
    return model, plain


@pytest.mark.parametrize("bf16", [False, True])
def test_quantised_layers(tokenizer, bf16):
    model, plain = quantised(tiny_model("llama"))
    decoder, reference = (Decoder(one, tokenizer, name="4bit") for one in (model, plain))
    views, tokens = lora_b(decoder, rank=4, seed=0), decoder.tokenise(some_examples())
    assert {type(view.module) for view in views} == {Linear4bit}
    before = state(model)
    found, _ = view_parts(decoder, views, tokens, bf16=bf16)
    expected = lora_gradients(reference, lora_b(reference, rank=4, seed=0), tokens)
    if bf16:
        rows = [torch.cat([part.flatten(1) for part in parts], 1).float() for parts in (found, expected)]
        assert bool((torch.cosine_similarity(*rows) > 0.99).all())
    else:
        assert_each_close(views, found, expected)
    assert_untouched(model, before)


# Attention


def fused_calls(monkeypatch):
    calls = []
    fused = attention.ALL_ATTENTION_FUNCTIONS["sdpa"]

    def spy(*arguments, **keywords):
        calls.append(arguments)
        return fused(*arguments, **keywords)

    monkeypatch.setitem(attention.ALL_ATTENTION_FUNCTIONS, "sdpa", spy)
    return calls


def mistral(window):
    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=window))


def qwen2(window):
    config = {key: value for key, value in SMALL.items() if key != "head_dim"}
    return Qwen2ForCausalLM(Qwen2Config(**config, sliding_window=window, use_sliding_window=True, max_window_layers=1))


@pytest.mark.parametrize(
    ("model", "window", "fused"), [(mistral, 6, 2), (mistral, 90, 0), (qwen2, 6, 1), (qwen2, 90, 0)]
)
def test_sliding_windows(model, window, fused, tokenizer, monkeypatch):
    torch.manual_seed(0)
    decoder = Decoder(model(window), tokenizer, name="window", max_length=96)
    tokens = [one for one in decoder.tokenise(some_examples()) if len(one.ids) > 10]
    views = weights(decoder)
    expected = weight_gradients(decoder, views, tokens)
    calls = fused_calls(monkeypatch)
    engine = LayerGradients(decoder, views)
    calls.clear()
    (batch,) = make_batches(tokens, 10_000, CPU)
    found = {}
    engine.run(batch, found.__setitem__)
    assert len(calls) == fused
    rows = [found[number][torch.tensor(batch.places).argsort()] for number in range(len(views))]
    assert_each_close(views, rows, expected)


def test_long_texts_keep_the_fused_attention(decoder, monkeypatch):
    tokens, views = decoder.tokenise(some_examples()), weights(decoder)
    usual, _ = view_parts(decoder, views, tokens)
    calls = fused_calls(monkeypatch)
    monkeypatch.setattr(attention, "LONGEST", 8)
    fused, _ = view_parts(decoder, views, tokens)
    assert calls
    assert_each_close(views, fused, usual)


@pytest.mark.parametrize("cap", [0.5, 20.0])
def test_soft_caps(cap, tokenizer):
    config = Gemma2Config(
        **SMALL, attn_logit_softcapping=cap, final_logit_softcapping=cap, query_pre_attn_scalar=8, sliding_window=6
    )
    torch.manual_seed(0)
    decoder = Decoder(Gemma2ForCausalLM(config), tokenizer, name="gemma2", max_length=96)
    views, tokens = weights(decoder), decoder.tokenise(some_examples())
    found, losses = view_parts(decoder, views, tokens)
    assert_each_close(views, found, weight_gradients(decoder, views, tokens), 1e-4)
    torch.testing.assert_close(losses, torch.stack([loss(decoder.model, one) for one in tokens]))


# Mixtures of experts


def mixtral(config):
    return MixtralForCausalLM(MixtralConfig(**{k: v for k, v in config.items() if k != "moe_intermediate_size"}))


def qwen3_moe(config):
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**config))


def gpt_oss(config):
    return GptOssForCausalLM(GptOssConfig(**config, sliding_window=6))


class FlatExperts(nn.Module):
    """A mixture as many write it: every expert reads the tokens that are its own, whosever they are."""

    def __init__(self, width):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        found = torch.zeros_like(flat)
        for chosen, expert in zip((flat[:, 0] < 0, flat[:, 0] >= 0), self.experts, strict=True):
            found = found.index_put((chosen.nonzero()[:, 0],), expert(flat[chosen]).to(found.dtype))
        return found.view_as(x)


def flat_experts(config):
    model = tiny_model("llama")
    for layer in model.model.layers:
        layer.mlp = FlatExperts(32)
    return model


@pytest.mark.parametrize("model", [mixtral, qwen3_moe, gpt_oss])
@pytest.mark.parametrize("budget", [1, 10_000])
def test_every_fused_expert_is_a_layer(model, budget, tokenizer):
    decoder = decoder_of(MOE, model, tokenizer)
    views, tokens = weights(decoder), decoder.tokenise(some_examples())
    assert sum("experts" in view.name for view in views) == 2 * 2 * 4
    found, losses = view_parts(decoder, views, tokens, budget)
    assert not LayerGradients(decoder, views).alone
    expected = weight_gradients(decoder, views, tokens, dtype=torch.float32)
    for view, one, other in zip(views, found, expected, strict=True):
        assert float((one - other.flatten(1)).norm()) <= 1e-4 * float(other.norm()) + 1e-9, view.name
    torch.testing.assert_close(losses, torch.stack([loss(decoder.model, one) for one in tokens]))


def test_the_experts_of_a_layer_share_their_projections(tokenizer):
    decoder = decoder_of(MOE, mixtral, tokenizer)
    rights = {view.name: view.right for view in lora_b(decoder, rank=2, seed=0)}
    assert rights["model.layers.0.mlp.experts.down_proj[0]"] is rights["model.layers.0.mlp.experts.down_proj[3]"]
    assert rights["model.layers.0.mlp.experts.down_proj[0]"] is not rights["model.layers.1.mlp.experts.down_proj[0]"]


@pytest.mark.parametrize("bf16", [False, True])
def test_experts_that_are_given_a_heap_of_tokens_are_run_one_example_at_a_time(bf16, tokenizer):
    decoder = decoder_of(MOE, flat_experts, tokenizer)
    before = state(decoder.model)
    views, tokens = weights(decoder), decoder.tokenise(some_examples())
    engine = LayerGradients(decoder, views, bf16=bf16)
    assert engine.alone
    assert engine.budget(1000) == 1
    (batch,) = make_batches(tokens, 10_000, CPU)
    with pytest.raises(ModelError, match=r"tiny has layers whose rows cannot be told apart .*--token-budget 1"):
        engine.run(batch, lambda view, part: None)
    found, _ = view_parts(decoder, views, tokens, bf16=bf16)
    assert_untouched(decoder.model, before)
    expected = weight_gradients(decoder, views, tokens, dtype=torch.float32)
    found, expected = torch.cat(found, dim=1), torch.cat([one.flatten(1) for one in expected], dim=1)
    assert relative_error(found, expected) <= (0.1 if bf16 else 1e-5)


@pytest.mark.parametrize("model", [mixtral, qwen3_moe, flat_experts, gpt_oss])
def test_mixtures_with_their_experts_left_out(model, tokenizer):
    decoder = decoder_of(MOE, model, tokenizer)
    views = weights(decoder, modules="*self_attn*")
    assert len(views) == 8
    tokens = decoder.tokenise(some_examples())
    found, _ = view_parts(decoder, views, tokens)
    assert_each_close(views, found, weight_gradients(decoder, views, tokens, dtype=torch.float32), 1e-4)


# What a gradient is for


def moved(model, views, direction, step):
    """The model with every lora_B at `step` times `direction`, given transposed and flat."""
    parts = direction.split([view.length for view in views])
    with torch.no_grad():
        for view, parameter, part in zip(views, adapter_parts(model, [v.name for v in views]), parts, strict=True):
            parameter.copy_(step * part.view(view.shape).T)
    return model


@pytest.mark.parametrize("number", [0, 1, 4])
def test_finite_differences_give_the_squared_norm(family_decoder, number):
    views = lora_b(family_decoder, rank=4, seed=0)
    tokens = family_decoder.tokenise(some_examples())[number]
    found, _ = all_gradients(family_decoder, views, [tokens])
    model = fresh_lora(family_decoder, views)
    eps = 1e-5 / float(found.norm())
    with torch.no_grad():
        up = loss(moved(model, views, found[0].double(), eps), tokens)
        down = loss(moved(model, views, found[0].double(), -eps), tokens)
    assert float(up - down) / (2 * eps) == pytest.approx(float(found[0].double().square().sum()), rel=1e-4)


def test_a_step_on_one_example_changes_anothers_loss_by_their_inner_product(family_decoder):
    views = lora_b(family_decoder, rank=4, seed=0)
    query, pool = family_decoder.tokenise(some_examples())[:2]
    found = all_gradients(family_decoder, views, [query, pool])[0].double()
    model = fresh_lora(family_decoder, views)
    eta = 1e-6 / float(found[1].norm())
    with torch.no_grad():
        before = loss(moved(model, views, found[1], 0.0), query)
        after = loss(moved(model, views, found[1], -eta), query)
    scale = float(found[0].norm() * found[1].norm())
    assert float(after - before) / eta == pytest.approx(-float(found[0] @ found[1]), abs=1e-4 * scale)


# Eyes on layers


def test_backward_shows_what_goes_in_and_what_comes_back(decoder):
    views = weights(decoder)
    backward = Backward(decoder, [view.module for view in views])
    (batch,) = make_batches(decoder.tokenise(some_examples()), 10_000, CPU)
    found = {}
    backward.run(batch, lambda layer, x: x, lambda layer, x, delta: found.update({layer: (x, delta)}))
    expected, _ = view_parts(decoder, views, decoder.tokenise(some_examples()))
    padding = torch.arange(batch.ids.shape[1]) >= batch.lengths[:, None]
    assert padding.any()
    for number, (x, delta) in found.items():
        assert not delta[padding].any()
        product = torch.einsum("nti,nto->nio", x, delta).flatten(1)
        torch.testing.assert_close(product, expected[number][batch.places], rtol=1e-4, atol=1e-6)


def test_nothing_of_a_batch_stays_in_memory(decoder):
    engine = LayerGradients(decoder, lora_b(decoder, rank=2, seed=0), bf16=True)
    (batch,) = make_batches(decoder.tokenise(some_examples()), 10_000, CPU)
    engine.run(batch, lambda view, part: None)
    gc.collect()
    size = batch.ids.numel()
    kept = [one for one in gc.get_objects() if type(one) is torch.Tensor and one.numel() >= 32 * size]
    assert not [one for one in kept if one.shape[:2] == batch.ids.shape]


def test_a_layer_through_which_no_gradient_comes_back_is_refused(decoder):
    class Silent(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, delta):
            return None

    decoder.model.model.layers[1].mlp.register_forward_pre_hook(lambda module, inputs: (Silent.apply(inputs[0]),))
    decoder.model.model.layers[1].register_forward_hook(lambda module, inputs, output: Silent.apply(output))
    gradients = LayerGradients(decoder, lora_b(decoder, rank=2, seed=0))
    (batch,) = make_batches(decoder.tokenise(some_examples()[:1]), 100, torch.device("cpu"))
    with pytest.raises(ModelError, match=r"no gradient comes back to layer model\.layers"):
        gradients.run(batch, lambda view, part: None)
