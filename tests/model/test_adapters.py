"""Every adapter that PEFT saves is merged and verified, or refused by name; the check of merges can fail."""

import logging
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from helpers.measuring import load_script
from helpers.teacher_oracles import adapter_gradients, facts, flat, relative_error
from helpers.tiny import save_decoder, tiny_model
from influcoder.errors import ConfigError, ModelError
from influcoder.model import adapters
from influcoder.model.adapters import plain_name
from influcoder.model.decoder import Decoder
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.raw import plain_views
from influcoder.teachers.settings import TeacherSettings

measure = load_script("adapters")
CASES = {case.name: case for case in measure.cases()}
OF_TABLES = ("embed", "head", "both", "token", "vocabulary", "replicated")
"""cases where it matters whether input and output share a table"""
CHOSEN = [
    (case.name, tied)
    for number, case in enumerate(CASES.values())
    for tied in ((False, True) if any(word in case.name for word in OF_TABLES) else (bool(number % 2),))
]
REFUSED = {
    "aLoRA",
    "Arrow",
    "only a named adapter in a folder below",
    "a setting that PEFT does not know",
    "a kind that PEFT does not know",
    *(f"task type {task}" for task in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION")),
    *("ADAPTION_PROMPT", "CARTRIDGE", "CPT", "LILY", "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING"),
    *("POLY", "PREFIX_TUNING", "SHADOW", "XLORA"),
}
NOT_PLAIN = ("DoRA", "VeLoRA", "KaSA", "BD-LoRA", "MonteCLoRA", "LoRA of parameters", "LoRA, MiCA start", "IA3", "LOHA")


@pytest.fixture(scope="module", autouse=True)
def no_cards():
    """Adapters are saved without a README, whose writing takes as long as their making."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PeftModel, "create_or_update_model_card", lambda self, folder: None)
        yield


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return {tied: measure.make_base(tmp_path_factory.mktemp("base") / "base", tied=tied) for tied in (False, True)}


@pytest.fixture(scope="module")
def outcome(bases, tmp_path_factory):
    """What becomes of a case's adapter, and the adapter's folder, made once."""

    @cache
    def of(name, tied):
        adapter = tmp_path_factory.mktemp("case") / "adapter"
        return measure.outcome(CASES[name], bases[tied], adapter), adapter

    return of


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "tied"), CHOSEN, ids=[f"{name}, {'tied' if tied else 'two'}" for name, tied in CHOSEN]
)
def test_every_adapter_is_verified_or_refused(outcome, name, tied):
    found, _ = outcome(name, tied)
    if name in REFUSED:
        assert found["refused"].startswith("adapter: ")
        return
    assert found.get("refused") is None
    assert found["error"] < 1e-5
    assert found["effect"] > 1e-3
    assert (found["own"] > 0) == (name.startswith(("LoRA", "`", "vocabulary", "two", "task")) and name not in NOT_PLAIN)


def test_every_kind_of_peft_is_tried():
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    assert {kind.value for kind in PEFT_TYPE_TO_CONFIG_MAPPING} - {"LORA"} <= set(CASES)


# LoRA on tied tables


def lora_adapter(folder, base, **more):
    """A LoRA adapter of a saved base, away from zero."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(model, LoraConfig(**({"r": 4, "target_modules": ["q_proj"]} | more)))
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    from helpers.tiny import tiny_tokenizer

    return save_decoder(tmp_path_factory.mktemp("tied"), tiny_tokenizer(), "llama-tied")


@pytest.fixture(scope="module")
def on_head(tied, tmp_path_factory):
    return lora_adapter(tmp_path_factory.mktemp("on-head"), tied, target_modules=["lm_head", "q_proj"])


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_merge_that_changes_the_logits_is_refused(tied, on_head, monkeypatch, dtype):
    Decoder.load(tied, adapter=on_head, device="cpu", dtype=dtype)
    monkeypatch.setattr(adapters, "_untie", lambda loaded: None)
    with pytest.raises(ModelError, match=r"merging this LoRA adapter into .* changes its logits by"):
        Decoder.load(tied, adapter=on_head, device="cpu", dtype=dtype)


@pytest.mark.parametrize(("dtype", "told"), [("bf16", True), ("fp32", False)])
def test_small_adapter_that_half_precision_rounds_away_is_said(tied, tmp_path, caplog, dtype, told):
    adapter = lora_adapter(tmp_path, tied, target_modules=["down_proj", "o_proj", "up_proj"])
    stored = load_file(adapter / "adapter_model.safetensors")
    save_file({name: one * 0.1 for name, one in stored.items()}, adapter / "adapter_model.safetensors")
    with caplog.at_level(logging.WARNING, logger="influcoder"):
        Decoder.load(tied, adapter=adapter, device="cpu", dtype=dtype)
    assert ("merging it in bfloat16 rounds by" in caplog.text) == told


def test_untied_model_can_be_saved_and_loaded(tied, on_head, tmp_path, tokenizer):
    merged = Decoder.load(tied, adapter=on_head, device="cpu")
    merged.model.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    again = Decoder.load(tmp_path / "whole", device="cpu")
    ids = torch.arange(20)[None]
    torch.testing.assert_close(again.model(ids).logits, merged.model(ids).logits, rtol=0, atol=0)
    assert again.fingerprint.decoder == merged.fingerprint.decoder


def test_adapter_that_is_not_a_number_is_refused(tied, on_head, tmp_path):
    for file in on_head.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    stored = load_file(tmp_path / "adapter_model.safetensors")
    next(iter(stored.values()))[0] = torch.nan
    save_file(stored, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"changes its logits by nan"):
        Decoder.load(tied, adapter=tmp_path, device="cpu")


# Adapters that do not fit


def test_stored_weights_that_find_no_place_are_named(tied, tmp_path):
    adapter = lora_adapter(tmp_path, tied, modules_to_save=["norm"])
    measure.say(adapter, modules_to_save=None)
    with pytest.raises(ModelError, match=r"does not fit .*: only one of the two has .*norm\.weight"):
        Decoder.load(tied, adapter=adapter, device="cpu")


def test_pickle_that_runs_code_is_refused(tied, tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return open, ("trap-was-sprung", "w")

    adapter = lora_adapter(tmp_path, tied)
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"weights": Trap()}, adapter / "adapter_model.bin")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="does not load as an adapter"):
        Decoder.load(tied, adapter=adapter, device="cpu")
    assert not (tmp_path / "trap-was-sprung").exists()


def test_new_rows_that_are_not_stored_are_refused(tmp_path, tokenizer):
    base = save_decoder(tmp_path / "base", tokenizer, "llama")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer) + 2, mean_resizing=False)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"]))
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    with pytest.raises(ModelError, match=r"another number of tokens than .* does not hold all of their rows"):
        Decoder.load(base, adapter=tmp_path / "adapter", device="cpu")


# The adapter's own gradients

OWN = {
    "rsLoRA with patterns": {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "biases": {"bias": "all"},
    "biases of B": {"lora_bias": True},
    "PiSSA": {"init_lora_weights": "pissa"},
    "tables too": {"target_modules": ["q_proj", "v_proj", "lm_head", "embed_tokens"]},
    "whole modules too": {"modules_to_save": ["norm", "embed_tokens"]},
    "single tokens too": {"trainable_token_indices": [3, 4]},
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("more", OWN.values(), ids=OWN)
def test_own_gradients_are_those_of_the_unmerged_adapter(tied, tmp_path, more):
    adapter = lora_adapter(tmp_path, tied, **({"target_modules": ["q_proj", "v_proj"]} | more))
    decoder = Decoder.load(tied, adapter=adapter, device="cpu", max_length=96)
    settings = TeacherSettings(source="adapter", width=0, similarity="dot", precision="fp32")
    teacher = GradientTeacher(decoder, settings)
    by_autograd = adapter_gradients(tied, adapter, decoder, facts(4))
    expected = {view.name: by_autograd[view.name] for view in teacher._plain.views}
    assert len(expected) == 8
    assert relative_error(teacher.features(facts(4), "query").vectors, flat(expected)) < 1e-4


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", NOT_PLAIN)
def test_gradients_of_other_parameters_are_refused(outcome, bases, name):
    tied = dict(CHOSEN)[name]
    _, adapter = outcome(name, tied)
    decoder = Decoder.load(bases[tied], adapter=adapter, device="cpu")
    for teacher in ("adapter", "less"):
        with pytest.raises(ConfigError, match=r"A and B, and .* has a .* adapter, whose parameters are others"):
            plain_views(decoder, TeacherSettings.named(teacher))


def test_what_was_trained_is_known_in_the_optimizers_order(tied, tmp_path):
    adapter = lora_adapter(tmp_path, tied, modules_to_save=["norm"], bias="all")
    found = Decoder.load(tied, adapter=adapter, device="cpu").merged.trained
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tied), adapter, is_trainable=True)
    expected = {plain_name(name): tuple(one.shape) for name, one in model.named_parameters() if one.requires_grad}
    assert list(found.items()) == list(expected.items())
    assert list(found)[:2] == [f"model.layers.0.self_attn.q_proj.lora_{side}" for side in "AB"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("base_model.model.model.layers.0.q.lora_A.default.weight", "model.layers.0.q.lora_A"),
        ("base_model.model.model.layers.0.q.lora_B.policy.weight", "model.layers.0.q.lora_B"),
        ("module.base_model.model.l.lora_A.weight", "l.lora_A"),
        ("_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module.q.weight", "model.layers.0.q.weight"),
        ("model.layers.0.q.weight", "model.layers.0.q.weight"),
        ("base_model.model.l.lora_B.default.bias", "l.lora_B.default.bias"),
    ],
)
def test_plain_names(name, plain):
    assert plain_name(name) == plain


def test_base_keeps_its_own_weights(tied, on_head):
    before = tiny_model("llama-tied")(input_ids=torch.arange(9)[None]).logits
    after = Decoder.load(tied, device="cpu").model(input_ids=torch.arange(9)[None]).logits
    torch.testing.assert_close(after, before)
    assert Path(on_head, "adapter_model.safetensors").exists()


def test_adapter_that_peft_loads_only_in_part_is_refused(tied, on_head, monkeypatch):
    whole = PeftModel.from_pretrained

    def in_part(*given, **named):
        warnings.warn("Found missing adapter keys while loading the checkpoint: ['layers.1.lora_A']", stacklevel=1)
        return whole(*given, **named)

    monkeypatch.setattr(PeftModel, "from_pretrained", in_part)
    with pytest.raises(ModelError, match=r"loads only a part of it, .*'layers\.1\.lora_A'.* Save the merged model"):
        Decoder.load(tied, adapter=on_head, device="cpu")
