"""The check before a long job: quiet on models that are well; loud, with numbers and advice that helps, on others."""

import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import ProphetNetConfig, ProphetNetForCausalLM

from helpers.teacher_oracles import facts, trained_checkpoints
from helpers.tiny import some_examples, tiny_decoder
from influcoder.data.examples import Example, examples_from_row
from influcoder.data.parts import Columns
from influcoder.errors import ModelError
from influcoder.model import gradients
from influcoder.model.decoder import Decoder
from influcoder.model.layers import View
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.reliability import reliability
from influcoder.teachers.self_check import self_check
from influcoder.teachers.settings import FORWARD, TEACHERS, TeacherSettings

SETTINGS = TeacherSettings(rank=8, width=2048, precision="fp32", token_budget=200)
EXAMPLES, POOL = some_examples(), facts(24)


def followed(message, settings):
    """The settings that a message advises."""
    if found := re.search(r"--modules (.*)$", message):
        return replace(settings, modules=found.group(1).replace("'", ""))
    if "--token-budget 1" in message:
        return replace(settings, token_budget=1)
    if "--precision fp32" in message:
        return replace(settings, precision="fp32")
    assert "--teacher repsim" in message
    return TeacherSettings.named("repsim", precision=settings.precision, token_budget=settings.token_budget)


def refused_with_advice_that_helps(decoder, settings, match):
    """The advice, which has the check pass."""
    with pytest.raises(ModelError, match=match) as caught:
        self_check(decoder, EXAMPLES, settings)
    message = str(caught.value)
    assert message.startswith(decoder.name)
    found = self_check(decoder, EXAMPLES, followed(message, settings))
    assert found["error"] <= 1e-3
    return message


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt-neox", "qwen3"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_good_models_pass(tokenizer, family, precision):
    decoder = tiny_decoder(family, tokenizer)
    found = self_check(decoder, EXAMPLES, replace(SETTINGS, precision=precision))
    assert (found["examples"], found["layers"]) == (2, {"gpt2": 8, "gpt-neox": 8}.get(family, 14))
    assert 0 <= found["error"] < 1e-5
    assert found["cosine"] > 1 - 1e-6
    if precision == "fp32":
        assert found["bf16_cosine"] is None
    else:
        assert 0.97 < found["bf16_cosine"] <= 1.0001
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in decoder.model.parameters())


def test_the_two_examples_are_of_different_lengths(decoder, monkeypatch):
    seen = []
    run = gradients.LayerGradients.run
    monkeypatch.setattr(
        gradients.LayerGradients, "run", lambda self, batch, receive: (seen.append(batch), run(self, batch, receive))[1]
    )
    self_check(decoder, [EXAMPLES[0], replace(EXAMPLES[0], id="again"), EXAMPLES[2]], SETTINGS)
    assert [batch.lengths.tolist() for batch in seen] == [sorted(seen[0].lengths.tolist(), reverse=True)]
    assert len(set(seen[0].lengths.tolist())) == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("loss", ["assistant", "weights", "labels"])
def test_rows_that_weigh_their_tokens_pass(chat_decoder, loss, precision):
    turns = [{"role": role, "content": f"{role} {n}"} for n in range(2) for role in ("user", "assistant")]
    row = {"messages": turns}
    if loss == "weights":
        row["weights"] = [0, 0.25, 3, 1]
    elif loss == "labels":
        row = {"input_ids": list(range(60, 80)), "labels": [-100] * 5 + [65, 66] + [-100] * 8 + list(range(75, 80))}
    rows = examples_from_row(row, Columns(loss="assistant" if loss == "assistant" else "completion"))
    assert chat_decoder.tokenise(rows)[0].weights is not None
    found = self_check(chat_decoder, [*rows, EXAMPLES[2]], replace(SETTINGS, precision=precision))
    assert found["error"] < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_check_costs_no_more_than_eight_gradients(decoder, precision):
    """Counted in tokens that go through the model; whatever goes back went through it first."""
    rows = [Example(f"{n}", "two plus two " * 7, "is four, and " * 9 + "so" * n) for n in range(2)]
    seen = []
    decoder.model.get_input_embeddings().register_forward_pre_hook(lambda _, given: seen.append(given[0].numel()))
    self_check(decoder, rows, replace(SETTINGS, precision=precision))
    longest = max(len(tokens.ids) for tokens in decoder.tokenise(rows))
    assert longest > 80
    assert longest < sum(seen) <= 8 * longest


def test_examples_of_one_length_are_a_pair_too(decoder):
    same = [replace(EXAMPLES[0], id=f"{n}") for n in range(3)]
    assert self_check(decoder, same, SETTINGS)["examples"] == 2


def test_one_example_is_enough(decoder):
    assert self_check(decoder, EXAMPLES[:1], SETTINGS)["examples"] == 1


# What the engine would get wrong


def test_a_layer_that_is_not_seen_is_an_error_by_name(decoder, monkeypatch):
    """As a hook that never fires: its gradient is taken for zero."""
    watched = gradients.Backward._watched

    def but_one(self, on_product):
        return watched(self, lambda number, x: None if number == 3 and len(self.layers) > 13 else on_product(number, x))

    monkeypatch.setattr(gradients.Backward, "_watched", but_one)
    name = r"model\.layers\.0\.self_attn\.o_proj"
    message = refused_with_advice_that_helps(decoder, SETTINGS, rf"differ from plain autograd's by .* in {name}\. ")
    assert message.endswith("--modules '!model.layers.0.self_attn.o_proj'")


def multiply_views(monkeypatch, factor):
    product = View.product
    monkeypatch.setattr(View, "product", lambda view, low, delta: product(view, low, delta) * factor(view))


def test_a_gradient_that_is_off_is_an_error_by_name(decoder, monkeypatch):
    down = decoder.model.model.layers[1].mlp.down_proj
    multiply_views(monkeypatch, lambda view: 1.1 if view.module is down else 1)
    refused_with_advice_that_helps(decoder, SETTINGS, r"in model\.layers\.1\.mlp\.down_proj\. ")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_passes_no_comparison(decoder, bad, monkeypatch):
    down = decoder.model.model.layers[1].mlp.down_proj
    multiply_views(monkeypatch, lambda view: bad if view.module is down else 1)
    refused_with_advice_that_helps(decoder, SETTINGS, r"by (nan|inf) of .* in model\.layers\.1\.mlp\.down_proj\. ")


def test_when_no_layer_is_right_a_teacher_without_gradients_is_advised(decoder, monkeypatch):
    multiply_views(monkeypatch, lambda view: 2)
    refused_with_advice_that_helps(decoder, SETTINGS, "no layer is right: use --teacher repsim")


# What models do


def test_model_that_mixes_its_batch_is_found(decoder):
    mix = decoder.model.model.layers[0].mlp
    mix.register_forward_hook(lambda module, inputs, output: output + output.mean(dim=0, keepdim=True))
    refused_with_advice_that_helps(
        decoder, SETTINGS, r"tiny-llama: .* changes by \d\S* of its length with the batch it is in .*--token-budget 1"
    )


def test_a_model_that_does_not_bear_padding_is_found(tokenizer):
    torch.manual_seed(0)
    config = ProphetNetConfig(
        **{"vocab_size": 320, "hidden_size": 32, "decoder_ffn_dim": 48, "num_decoder_layers": 2, "ngram": 2},
        **{"num_decoder_attention_heads": 4, "max_position_embeddings": 128, "is_decoder": True, "init_std": 0.1},
        **{"add_cross_attention": False, "is_encoder_decoder": False},
    )
    decoder = Decoder(ProphetNetForCausalLM(config), tokenizer, name="prophet", max_length=96)
    refused_with_advice_that_helps(decoder, SETTINGS, "with the batch it is in .*--token-budget 1")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_padding_that_gives_nan_is_found(decoder, precision):
    """The advice is none that is followed already."""

    def on_mlp(module, inputs, output):
        padded = output.shape[0] > 1
        return output * (float("nan") if padded else 1)

    decoder.model.model.layers[0].mlp.register_forward_hook(on_mlp)
    settings = replace(SETTINGS, precision=precision)
    message = refused_with_advice_that_helps(decoder, settings, r"changes by nan of its length .*--token-budget 1")
    assert "fp32" not in message


def test_model_that_bears_no_bfloat16_is_found(decoder):
    for layer in decoder.model.model.layers:
        layer.self_attn.q_proj.weight.data *= 30
        layer.self_attn.k_proj.weight.data *= 30
    refused_with_advice_that_helps(
        decoder,
        replace(SETTINGS, precision="bf16"),
        r"bfloat16 gradients have cosine -?0\.\d+ with float32 ones, .*--precision fp32",
    )


def test_nan_in_bfloat16_alone_is_found(decoder):
    class Narrow(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (1 if not torch.is_autocast_enabled("cpu") else float("nan"))

    up = decoder.model.model.layers[0].mlp.up_proj
    up.__class__ = Narrow
    refused_with_advice_that_helps(
        decoder, replace(SETTINGS, precision="bf16"), r"bfloat16 gradients have cosine nan .*--precision fp32"
    )


def test_a_model_of_which_no_gradient_can_be_taken_is_refused_by_name(decoder):
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, delta):
            raise NotImplementedError("forward only")

    decoder.model.model.norm.register_forward_hook(lambda module, inputs, output: Once.apply(output))
    refused_with_advice_that_helps(
        decoder, SETTINGS, r"no gradient of 'e0' can be taken: NotImplementedError: forward only.*--teacher repsim"
    )


def test_zero_gradients_are_found(decoder):
    decoder.model.lm_head.weight.data.zero_()
    with pytest.raises(ModelError, match=r"2 of 2 gradients are zero, 'e0' among them, in plain autograd as well"):
        self_check(decoder, EXAMPLES, SETTINGS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_that_are_not_finite_are_found(decoder, value, precision):
    decoder.model.model.embed_tokens.weight.data[int(decoder.tokenise(EXAMPLES)[0].ids[0])] = value
    with pytest.raises(ModelError, match=r"\d of 2 gradients are not finite, 'e0' among them") as caught:
        self_check(decoder, EXAMPLES, replace(SETTINGS, precision=precision))
    assert "fp32" not in str(caught.value)  # float32 does not hold them either


@pytest.mark.parametrize("name", ["forward", "repsim", "rds+"])
def test_teachers_that_take_no_gradient_are_compared_with_themselves(decoder, name):
    settings = TeacherSettings.named(name, precision="fp32", token_budget=200)
    found = self_check(decoder, EXAMPLES, settings)
    assert found["layers"] == 0
    assert found["error"] < 1e-5
    mix = decoder.model.model.layers[0].mlp
    mix.register_forward_hook(lambda module, inputs, output: output + output.mean(dim=0, keepdim=True))
    with pytest.raises(ModelError, match=r"features change with the batch they are in.*--token-budget 1"):
        self_check(decoder, EXAMPLES, settings)
    assert self_check(decoder, EXAMPLES, replace(settings, token_budget=1))["error"] == 0


# How well a teacher agrees with itself


def test_wide_teachers_agree_with_themselves_and_narrow_ones_less(decoder):
    wide, narrow = (
        reliability(decoder, replace(SETTINGS, rank=rank, width=width), EXAMPLES, POOL)
        for rank, width in ((32, 2**17), (1, 16))
    )
    assert wide["seeds"] > 0.97
    assert wide["sketched"] > 0.99
    assert wide["projected"] > 0.97
    for key in ("seeds", "sketched", "projected"):
        assert narrow[key] < wide[key] - 0.1
    assert wide["precision"] is narrow["precision"] is None


def test_precision_is_compared_where_bfloat16_runs(decoder):
    found = reliability(decoder, replace(SETTINGS, precision="bf16"), EXAMPLES, POOL)
    assert 0.8 < found["precision"] < 1.0001


@pytest.mark.parametrize("name", sorted(set(TEACHERS) - {"less", "adapter"}))
def test_what_cannot_be_compared_is_none(decoder, name):
    settings = TeacherSettings.named(name, rank=4, precision="fp32", token_budget=200, kept=4)
    settings = replace(settings, width=512) if settings.width else settings
    found = reliability(decoder, settings, EXAMPLES[:4], POOL)
    assert set(found) == {"seeds", "sketched", "projected", "precision"}
    compared = {
        "seeds": settings.source not in ("last-state", "mean-state"),
        "sketched": settings.source not in FORWARD and settings.width > 0 and settings.curvature == "none",
        "projected": settings.source in ("lora-b", "two-sided", "principal"),
        "precision": False,
    }
    assert {key: value is not None for key, value in found.items()} == compared
    assert all(-1 <= value <= 1.0001 for value in found.values() if value is not None)


def test_curvature_is_learnt_from_halves_of_the_pool(decoder, monkeypatch):
    seen = []
    from influcoder.teachers.gradient import GradientTeacher

    fit = GradientTeacher.fit
    monkeypatch.setattr(GradientTeacher, "fit", lambda self, *sides: (seen.append(self.settings), fit(self, *sides))[1])
    settings = TeacherSettings.named("logra", rank=3, precision="fp32", token_budget=200)
    reliability(decoder, settings, EXAMPLES[:3], POOL)
    assert seen[0].fit_examples == len(POOL) // 2
    assert {one.seed for one in seen} == {0, 1}


def test_checkpoints_are_compared_by_seed(decoder, tmp_path):
    checkpoints = Checkpoint.read(trained_checkpoints(tmp_path, decoder))
    settings = TeacherSettings.named("tracin", rank=16, width=2**15, precision="fp32", token_budget=200)
    found = reliability(decoder, settings, EXAMPLES[:4], POOL, checkpoints=checkpoints)
    assert found["seeds"] > 0.9
    assert found["sketched"] is found["projected"] is None


def test_what_does_not_fit_memory_is_not_compared(decoder, monkeypatch):
    monkeypatch.setattr("influcoder.teachers.reliability.UNSKETCHED_NUMBERS", 10)
    found = reliability(decoder, replace(SETTINGS, width=256), EXAMPLES[:3], POOL)
    assert found["sketched"] is found["projected"] is None
    assert found["seeds"] is not None
