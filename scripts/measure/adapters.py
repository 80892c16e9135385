"""Every adapter that the installed PEFT saves, on tiny random models: merged and verified, or refused by name.

An adapter of each kind is made, its parameters moved at random, saved, and loaded as `--adapter` is. The logits must
be those of the adapter in memory, which was never merged. `python scripts/measure/adapters.py docs/adapters.md` writes
the table; a test runs the same cases.
"""

import copy
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
from peft import LoraConfig, PeftType, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING as CONFIGS
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from influcoder.demo.world import assets
from influcoder.errors import ModelError
from influcoder.model.decoder import Decoder

LAYERS = ["q_proj", "v_proj", "down_proj"]
SAME = 1e-4
"""the largest difference of logits, as a share of their length, that counts as the same"""


@dataclass(frozen=True)
class Case:
    """An adapter: its config, and what happens to its folder after it is saved."""

    name: str
    config: Callable[[], Any]
    after: Callable[[Path], None] = lambda folder: None
    tokens: int = 0  # that are added to the vocabulary before training
    tables_saved: bool = True  # where there are more tokens
    dtype: torch.dtype = torch.float32  # that it is saved in
    config_alone: bool = False  # refused by its config: no weights are made


def lora(**more: Any) -> Callable[[], LoraConfig]:
    return partial(LoraConfig, **({"r": 4, "lora_alpha": 8, "target_modules": LAYERS, "task_type": "CAUSAL_LM"} | more))


def as_bin(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()


def say(folder: Path, **more: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def with_another(folder: Path) -> None:
    """A second adapter in a folder below, as PEFT saves all but the default one."""
    get_peft_model(tiny(tied=False), lora()()).save_pretrained(folder / "reference")


def down_one(folder: Path) -> None:
    """No default adapter, only a named one."""
    files = [file for file in folder.iterdir() if file.is_file()]
    (folder / "policy").mkdir()
    for file in files:
        file.rename(folder / "policy" / file.name)


LORA = [
    Case("LoRA", lora()),
    Case("LoRA, rsLoRA scale", lora(use_rslora=True)),
    Case("LoRA, rank and alpha patterns", lora(rank_pattern={"q_proj": 2}, alpha_pattern={"down_proj": 32})),
    Case("LoRA, `bias='all'`", lora(bias="all")),
    Case("LoRA, `lora_bias`", lora(lora_bias=True)),
    Case("LoRA, PiSSA start", lora(init_lora_weights="pissa")),
    Case("LoRA, OLoRA start", lora(init_lora_weights="olora")),
    Case("LoRA, MiCA start", lora(init_lora_weights="mica")),
    Case("LoRA, saved in fp16", lora(), dtype=torch.float16),
    Case("LoRA, saved in bf16", lora(), dtype=torch.bfloat16),
    Case("LoRA, `adapter_model.bin`", lora(), as_bin),
    Case("LoRA of `embed_tokens`", lora(target_modules=["embed_tokens", "q_proj"])),
    Case("LoRA of `lm_head`", lora(target_modules=["lm_head", "q_proj"])),
    Case("LoRA of both", lora(target_modules=["embed_tokens", "lm_head"])),
    Case("LoRA of both, kept tied", lora(target_modules=["embed_tokens", "lm_head"], ensure_weight_tying=True)),
    Case("`modules_to_save` embed_tokens", lora(modules_to_save=["embed_tokens"])),
    Case("`modules_to_save` lm_head", lora(modules_to_save=["lm_head"])),
    Case("`modules_to_save` both", lora(modules_to_save=["lm_head", "embed_tokens"])),
    Case("`modules_to_save` norm", lora(modules_to_save=["norm"])),
    Case("`trainable_token_indices`", lora(trainable_token_indices=[3, 40])),
    Case(
        "`trainable_token_indices`, others a table",
        lora(trainable_token_indices={"embed_tokens": [3, 4], "lm_head": [5]}),
    ),
    Case("vocabulary resized, tables saved", lora(modules_to_save=["lm_head", "embed_tokens"]), tokens=3),
    Case("vocabulary resized, LoRA of both", lora(target_modules=["embed_tokens", "lm_head"]), tokens=3),
    Case("vocabulary resized, one table saved", lora(modules_to_save=["embed_tokens"]), tokens=3),
    Case("vocabulary resized, new tokens trained", lora(trainable_token_indices=[6144, 6145, 6146]), tokens=3),
    Case("vocabulary resized, no table saved: old tokens alone", lora(), tokens=3, tables_saved=False),
    Case("LoRA of parameters", lora(target_modules=[], target_parameters=["q_proj.weight"])),
    Case("LoRA of replicated layers", lora(layer_replication=[[0, 2], [1, 2]])),
    Case("DoRA", lora(use_dora=True)),
    Case("VeLoRA", lambda: lora(velora_config=peft.VeloraConfig())()),
    Case("KaSA", lambda: lora(kasa_config=peft.KasaConfig())()),
    Case(
        "BD-LoRA",
        lambda: lora(
            use_bdlora=peft.BdLoraConfig(
                target_modules_bd_a=["down_proj"], target_modules_bd_b=["q_proj", "v_proj"], nblocks=2
            )
        )(),
    ),
    Case("MonteCLoRA", lambda: lora(monteclora_config=peft.MontecloraConfig())()),
    Case("aLoRA", lora(alora_invocation_tokens=[5, 6]), config_alone=True),
    Case("Arrow", lambda: lora(arrow_config=peft.ArrowConfig())(), config_alone=True),
    Case("two adapters, one the default", lora(), with_another),
    Case("only a named adapter in a folder below", lora(), down_one),
    Case("a setting that PEFT does not know", lora(), partial(say, use_later_lora=True)),
    Case("a kind that PEFT does not know", lora(), partial(say, peft_type="LATER")),
    *(
        Case(f"task type {task}", lora(), partial(say, task_type=task))
        for task in (None, "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION")
    ),
]

OWN_SETTINGS: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 10},
    "IA3": {"feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]},
    "TRAINABLE_TOKENS": {"target_modules": ["embed_tokens"], "token_indices": [1, 2]},
    "FOURIERFT": {"n_frequency": 20},
    "WAVEFT": {"n_frequency": 20},
    "OFT": {"oft_block_size": 8, "r": 0},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 8},
    "VBLORA": {"vector_length": 8, "num_vectors": 16, "topk": 2, "r": 4},
    "VERA": {"r": 4},
    "PVERA": {"r": 4},
    "RANDLORA": {"r": 4},
    "SHIRA": {"r": 2},
    "MISS": {"r": 4},
    "PSOFT": {"r": 4},
    "ROAD": {"group_size": 8},
    "ADAPTION_PROMPT": {"target_modules": "self_attn", "adapter_len": 4, "adapter_layers": 2},
}


def other_kinds() -> Iterator[Case]:
    """A case of every kind that PEFT has beside LoRA."""
    from influcoder.model.adapter_folder import NOT_MERGED

    for kind, config in CONFIGS.items():
        if kind == PeftType.LORA:
            continue
        has = config.__dataclass_fields__
        usual: dict[str, Any] = {"target_modules": LAYERS} if "target_modules" in has else {}
        usual |= {"num_virtual_tokens": 4} if "num_virtual_tokens" in has else {}
        settings = usual | OWN_SETTINGS.get(kind.value, {}) | {"task_type": "CAUSAL_LM"}
        yield Case(kind.value, partial(config, **settings), config_alone=kind.value in NOT_MERGED)


def cases() -> list[Case]:
    return [*LORA, *other_kinds()]


def tiny(*, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(_tokenizer()),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=0.1,
            tie_word_embeddings=tied,
        )
    ).eval()


@cache
def _tokenizer() -> PreTrainedTokenizerFast:
    loaded: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(assets() / "decoder")
    return loaded


def tokenizer() -> PreTrainedTokenizerFast:
    return copy.deepcopy(_tokenizer())


def make_base(folder: Path, *, tied: bool) -> Path:
    tiny(tied=tied).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def outcome(case: Case, base: Path, adapter: Path) -> dict[str, Any]:
    """What becomes of an adapter, made in the folder `adapter`.

    Returns:
        refused: the message; or
        error: how far the logits are from those of the adapter in memory, as a share of their length.
        effect: how far these are from those without it.
        own: how many layers' A and B have gradients of their own.
    """
    torch.manual_seed(2)
    expected, size = torch.empty(0), len(_tokenizer())
    ids = torch.randint(3, size, (3, 20), generator=torch.Generator().manual_seed(5))
    ids[0, :7] = torch.tensor([1, 2, 3, 4, 5, 40, 41])  # what the cases of single tokens train
    if case.tables_saved:
        ids[1, : case.tokens] = size + torch.arange(case.tokens)
    if case.config_alone:
        case.config().save_pretrained(adapter)
    else:
        model = AutoModelForCausalLM.from_pretrained(base)
        if case.tokens:
            model.resize_token_embeddings(size + case.tokens, mean_resizing=False)
            own = tokenizer()
            own.add_tokens([f"<new{number}>" for number in range(case.tokens)])
            own.save_pretrained(adapter)
        model = get_peft_model(model, case.config())
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                moved = parameter + 0.05 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(moved.to(case.dtype))
        expected = model.eval()(input_ids=ids).logits
        model.save_pretrained(adapter, save_embedding_layers="auto" if case.tables_saved else False)
        if case.dtype != torch.float32:
            file = adapter / "adapter_model.safetensors"
            save_file({name: one.to(case.dtype) for name, one in load_file(file).items()}, file)
    case.after(adapter)
    try:
        decoder = Decoder.load(base, adapter=adapter, device="cpu")
    except ModelError as error:
        return {"refused": str(error).replace(f"{adapter.parent}/", "").replace(f"{base.parent}/", "")}
    found = decoder.model(input_ids=ids).logits
    without = AutoModelForCausalLM.from_pretrained(base)(input_ids=ids.clamp_max(size - 1)).logits
    return {
        "error": distance(found, expected[..., : found.shape[-1]]),
        "effect": distance(without, expected[..., :size]),
        "own": len(decoder.adapter),
    }


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def record() -> list[dict[str, Any]]:
    """Every case on both kinds of model."""
    rows: list[dict[str, Any]] = [{"name": case.name} for case in cases()]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for column, tied in (("two tables", False), ("tied tables", True)):
            base = make_base(Path(folder, column, "base"), tied=tied)
            for number, case in enumerate(cases()):
                rows[number][column] = outcome(case, base, Path(folder, column, str(number), "adapter"))
    return rows


def said(found: dict[str, Any]) -> str:
    if "refused" in found:
        return "refused"
    return f"verified, {found['error']:.0e}" if found["error"] <= SAME else f"**wrong**, {found['error']:.2g}"


def first_sentence(text: str) -> str:
    """What a message says, without its remedy."""
    return text.removeprefix("adapter: ").partition(". ")[0] + "."


def page(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| adapter | two tables | tied tables | `adapter`, `less` |\n|---|---|---|---|\n",
    ]
    for row in rows:
        two, one = row["two tables"], row["tied tables"]
        own = "yes" if two.get("own") else "no" if "error" in two else ""
        lines.append(f"| {row['name']} | {said(two)} | {said(one)} | {own} |\n")
    refusals = {row["name"]: row["two tables"].get("refused") or row["tied tables"].get("refused") for row in rows}
    words = "".join(f"- **{name}**: {first_sentence(text)}\n" for name, text in refusals.items() if text)
    wrong = sum("wrong" in said(row[column]) for row in rows for column in ("two tables", "tied tables"))
    verified = sum("verified" in said(row[column]) for row in rows for column in ("two tables", "tied tables"))
    refused = 2 * len(rows) - wrong - verified
    head = HEAD.format(peft=peft.__version__, torch=torch.__version__.partition("+")[0], count=len(rows))
    counts = f"{verified} verified, {refused} refused, {wrong} wrong."
    why = f"## What is refused, and why\n\nEach message ends with what to do.\n\n{words}"
    return f"{head}\n{counts}\n\n{''.join(lines)}\n{why}"


HEAD = """# Adapters

`--adapter A`, or an adapter's folder given as `--decoder` (its base is then found through
`base_model_name_or_path`). An adapter is merged into its base before gradients are taken. After every merge the
logits of the merged model are held against those of the unmerged one, on rows from all over the vocabulary; where they
differ, the adapter is refused. Weights that the adapter's layers share with others, such as a tied table, are copied
first. The tokenizer and the chat template in the adapter's folder win over those of its base, and a difference is
reported and recorded.

What each cell says: *verified* with the relative difference of the logits from those of the adapter in memory, never
merged; *refused* by name; or *wrong*. The last column: whether the adapter's own A and B have gradients
(`--teacher adapter`, and `less` on its checkpoints); every other teacher takes any adapter that is verified.

Made by `scripts/measure/adapters.py` with peft {peft} and torch {torch}: {count} adapters of a tiny random Llama,
once with two tables and once with tied ones.
"""


if __name__ == "__main__":
    text = page(record())
    Path(sys.argv[1]).write_text(text, encoding="utf-8") if len(sys.argv) > 1 else print(text)
