"""The check before a long job: quiet on models that are well, loud, with numbers, on those that are not."""

from dataclasses import replace

import pytest

from helpers.teacher_oracles import facts, trained_checkpoints
from helpers.tiny import some_examples, tiny_decoder
from influcoder.errors import ModelError
from influcoder.teachers.check import reliability, self_check
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.settings import FORWARD, TEACHERS, TeacherSettings

SETTINGS = TeacherSettings(rank=8, width=2048, precision="fp32", token_budget=200)
EXAMPLES, POOL = some_examples(), facts(24)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt-neox", "qwen3"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_good_models_pass(tokenizer, family, precision):
    found = self_check(tiny_decoder(family, tokenizer), EXAMPLES, replace(SETTINGS, precision=precision))
    assert (found["examples"], found["not_finite"], found["zero"]) == (len(EXAMPLES), 0, 0)
    assert 0 <= found["batch_error"] < 1e-4
    if precision == "fp32":
        assert found["bf16_cosine"] is None
    else:
        assert 0.97 < found["bf16_cosine"] <= 1.0001


def test_model_that_mixes_its_batch_is_found(decoder):
    mix = decoder.model.model.layers[0].mlp
    mix.register_forward_hook(lambda module, inputs, output: output + output.mean(dim=0, keepdim=True))
    with pytest.raises(ModelError, match=r"tiny-llama: .* changes by \d\S* of its length with the batch it is in"):
        self_check(decoder, EXAMPLES, SETTINGS)


def test_model_that_bears_no_bfloat16_is_found(decoder):
    for layer in decoder.model.model.layers:
        layer.self_attn.q_proj.weight.data *= 30
        layer.self_attn.k_proj.weight.data *= 30
    with pytest.raises(
        ModelError, match=r"bfloat16 gradients have cosine -?0\.\d+ with float32 ones .*--precision fp32"
    ):
        self_check(decoder, EXAMPLES, replace(SETTINGS, precision="bf16"))
    assert self_check(decoder, EXAMPLES, SETTINGS)["bf16_cosine"] is None


def test_zero_gradients_are_found(decoder):
    decoder.model.lm_head.weight.data.zero_()
    with pytest.raises(ModelError, match=r"6 gradients are zero, 'e0' among them") as caught:
        self_check(decoder, EXAMPLES, SETTINGS)
    assert "not finite" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_found(decoder, value):
    token = int(decoder.tokenise(EXAMPLES[5:])[0].ids[0])
    decoder.model.model.embed_tokens.weight.data[token] = value
    concerned = [
        one.id for one, tokens in zip(EXAMPLES, decoder.tokenise(EXAMPLES), strict=True) if token in tokens.ids
    ]
    assert 0 < len(concerned) < len(EXAMPLES)
    with pytest.raises(ModelError) as caught:
        self_check(decoder, EXAMPLES, SETTINGS)
    assert f"{len(concerned)} gradients are not finite, {concerned[0]!r} among them" in str(caught.value)
    assert "zero" not in str(caught.value)


def test_every_complaint_is_made(decoder):
    decoder.model.lm_head.weight.data.zero_()
    token = int(decoder.tokenise(EXAMPLES[5:])[0].ids[0])
    decoder.model.model.embed_tokens.weight.data[token] = float("nan")
    with pytest.raises(ModelError, match=r"not finite.*; .*zero"):
        self_check(decoder, EXAMPLES, SETTINGS)


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
    monkeypatch.setattr("influcoder.teachers.check.UNSKETCHED_NUMBERS", 10)
    found = reliability(decoder, replace(SETTINGS, width=256), EXAMPLES[:3], POOL)
    assert found["sketched"] is found["projected"] is None
    assert found["seeds"] is not None
