"""Every state that training leaves for `less`, from real runs: its moments read right, or refused by name.

A tiny random Llama, or a LoRA adapter of it, is trained for two steps by the Hugging Face Trainer with each optimizer
and each way to group parameters; what `less` reads of the checkpoint must be what the optimizer in memory holds.
`python scripts/measure/optimizer_states.py docs/optimizer-states.md` writes the table; a test runs the same cases.
Cases of packages that are not installed are left out.
"""

import importlib.util
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

from influcoder.demo.world import assets
from influcoder.errors import InflucoderError
from influcoder.model.adapters import plain_name
from influcoder.teachers.checkpoints import AdamMoments, Checkpoint
from influcoder.teachers.raw import plain_views
from influcoder.teachers.settings import TeacherSettings

RATE = 1e-2
ZERO = "global_step2/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
OF_BITSANDBYTES = ("adamw_bnb_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_32bit", "ademamix", "rmsprop_bnb")
LORA = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
Make = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """A training run and what it leaves."""

    name: str
    optimizer: Make | None = None  # of a model; the Trainer's own otherwise
    lora: dict[str, Any] | None = None  # changes to the adapter's config; the whole model is trained without
    arguments: dict[str, Any] = field(default_factory=dict)  # of the Trainer
    prepare: Callable[[Any], None] = lambda model: None
    after: Callable[[Path, Any], None] = lambda folder, trainer: None
    needs: str = "torch"


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [one for one in model.parameters() if one.requires_grad]


def adamw(groups: Callable[[Any], Any], **more: Any) -> Make:
    return lambda model: torch.optim.AdamW(groups(model), lr=RATE, betas=(0.8, 0.95), **more)


def by(kind: type[torch.optim.Optimizer], **more: Any) -> Make:
    return lambda model: kind(trained(model), lr=RATE, **more)


def lion(model: nn.Module) -> Any:
    from lion_pytorch import Lion

    return Lion(trained(model), lr=1e-3)


def loraplus(model: Any) -> Any:
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16.0)


def freeze(pattern: str, model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = re.search(pattern, name) is None and parameter.requires_grad


def thaw_norms(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "norm" in name or parameter.requires_grad


def tables_apart(model: Any) -> list[dict[str, Any]]:
    """Tables of tokens with a rate of their own."""
    tables = [one for name, one in model.named_parameters() if "embed" in name or "lm_head" in name]
    return [
        {"params": tables, "lr": 1e-4},
        {"params": [one for one in trained(model) if all(one is not t for t in tables)]},
    ]


def a_group_a_layer(model: Any) -> list[dict[str, Any]]:
    """Rates that fall with depth, the last layer first."""
    layers = [list(layer.parameters()) for layer in model.model.layers]
    return [{"params": one, "lr": RATE / (1 + n)} for n, one in enumerate(reversed(layers))]


def named_backwards(model: Any) -> list[tuple[str, nn.Parameter]]:
    return [(name, one) for name, one in reversed(list(model.named_parameters())) if one.requires_grad]


def as_bin(folder: Path, trainer: Any) -> None:
    """As accelerate's save_state names it."""
    (folder / "optimizer.pt").rename(folder / "optimizer.bin")


def by_name(folder: Path, trainer: Any, prefix: str = "", infix: str = "", second: bool = False) -> None:
    """As FSDP gathers it, and as LESS reads it: keyed by parameter names."""
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    names = {
        one: prefix + name.replace("layers.0.", f"layers.0.{infix}") for name, one in trainer.model.named_parameters()
    }
    state = {names[one]: found for one, found in optimizer.state.items()}
    groups = [
        {
            **{key: value for key, value in group.items() if key != "params"},
            "params": [names[one] for one in group["params"]],
        }
        for group in optimizer.param_groups
    ]
    if second:
        state |= {name.replace(".default.", ".other."): found for name, found in state.items()}
    torch.save({"state": state, "param_groups": groups}, folder / "optimizer.bin")
    (folder / "optimizer.pt").unlink()


def in_parts(names: list[str], folder: Path, trainer: Any) -> None:
    """Files as others name them, without the Trainer's own."""
    (folder / "optimizer.pt").unlink()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"parts")


def deepspeed_file(folder: Path, trainer: Any) -> None:
    torch.save({"optimizer_state_dict": {}, "ds_config": {}, "ds_version": "0.17"}, folder / "optimizer.pt")


def not_finite(folder: Path, trainer: Any) -> None:
    saved = torch.load(folder / "optimizer.pt", weights_only=True)
    saved["state"][0]["exp_avg"].view(-1)[0] = torch.nan
    torch.save(saved, folder / "optimizer.pt")


def optim(name: str, needs: str = "torch", **more: Any) -> Case:
    return Case(f"`optim='{name}'`", arguments={"optim": name, **more}, needs=needs)


def cases() -> list[Case]:
    everything = [
        Case("the Trainer's AdamW"),
        optim("adamw_torch_fused"),
        Case("AdamW, one group", adamw(trained)),
        Case("AdamW, tables in a group of their own", adamw(tables_apart)),
        Case("AdamW, tables frozen", prepare=partial(freeze, "embed|lm_head")),
        Case("AdamW, named parameters in another order", adamw(named_backwards)),
        Case("AdamW, the first layer frozen", prepare=partial(freeze, r"layers\.0")),
        Case("AdamW, a group a layer, backwards", adamw(a_group_a_layer)),
        Case("AdamW, groups with other betas", lambda model: torch.optim.AdamW(
            [{"params": trained(model)[:3], "betas": (0.5, 0.9)}, {"params": trained(model)[3:]}], lr=RATE)),
        Case("LoRA, the Trainer's AdamW", lora={}),
        Case("LoRA, one group", adamw(trained), lora={}),
        Case("LoRA+ (four groups, two empty)", loraplus, lora={}),
        Case("LoRA+, A and B of one shape", loraplus, lora={"r": 32, "target_modules": ["q_proj"]}),
        Case("LoRA+, and a table's LoRA", loraplus, lora={"target_modules": ["q_proj", "embed_tokens"]}),
        Case("LoRA and `modules_to_save`", lora={"modules_to_save": ["norm", "lm_head"]}),
        Case("LoRA and `trainable_token_indices`", lora={"trainable_token_indices": [3, 4]}),
        Case("LoRA and all biases", lora={"bias": "all"}),
        Case("LoRA with a bias", lora={"lora_bias": True}),
        Case("rsLoRA, other ranks by pattern", lora={"use_rslora": True, "rank_pattern": {"q_proj": 2}}),
        Case("LoRA and norms that were thawed", lora={}, prepare=thaw_norms),
        Case("LoRA, A frozen", lora={}, prepare=partial(freeze, "lora_A")),
        Case("DoRA", lora={"use_dora": True}),
        Case("`optimizer.bin` by number (accelerate)", lora={}, after=as_bin),
        Case("`optimizer.bin` by name (FSDP, LESS)", lora={}, after=by_name),
        Case("`optimizer.bin` by name, the whole model", after=by_name),
        Case("names within wrappers", lora={}, after=partial(by_name, prefix="module.", infix="_fsdp_wrapped_module.")),
        Case("names of two adapters", lora={}, after=partial(by_name, second=True)),
        Case("DeepSpeed ZeRO", lora={}, after=partial(in_parts, [ZERO])),
        Case("DeepSpeed's own file", lora={}, after=deepspeed_file),
        Case("FSDP in shards", after=partial(in_parts, ["optimizer_0/__0_0.distcp", "optimizer_0/.metadata"])),
        Case("XLA in shards", after=partial(in_parts, ["rank0-of-2-optimizer.pt"])),
        Case("no state at all", after=partial(in_parts, [])),
        Case("a moment that is not a number", after=not_finite),
        optim("adafactor"),
        optim("sgd"),
        optim("rmsprop"),
        optim("adagrad"),
        Case("SGD with momentum", by(torch.optim.SGD, momentum=0.9)),
        Case("AMSGrad", adamw(trained, amsgrad=True)),
        Case("NAdam", by(torch.optim.NAdam)),
        Case("RAdam", by(torch.optim.RAdam)),
        Case("Adamax", by(torch.optim.Adamax)),
        Case("Adadelta", by(torch.optim.Adadelta)),
        Case("torch's Adafactor", by(torch.optim.Adafactor)),
        Case("ASGD", by(torch.optim.ASGD)),
        Case("Rprop", by(torch.optim.Rprop)),
        Case("Lion", lion, needs="lion_pytorch"),
        *(optim(name, "bitsandbytes") for name in OF_BITSANDBYTES),
        *(optim(name, "schedulefree") for name in ("schedule_free_adamw", "schedule_free_sgd")),
        optim("galore_adamw", "galore_torch", optim_target_modules=["q_proj"], optim_args="rank=4"),
    ]  # fmt: skip
    return [case for case in everything if importlib.util.find_spec(case.needs) is not None]


def make_base(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(assets() / "decoder")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 64}
    config = LlamaConfig(**sizes, vocab_size=len(tokenizer), num_attention_heads=4, num_key_value_heads=2)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def outcome(case: Case, base: Path, folder: Path) -> dict[str, Any]:
    """What `less` makes of a run's checkpoint: {"refused": message} or {"error": of moments, "views": how many}."""
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if case.lora is not None:
        model = get_peft_model(model, LoraConfig(**(LORA | case.lora)))
    case.prepare(model)
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "max_steps": 2,
            "save_steps": 2,
            "logging_steps": 1,
            "per_device_train_batch_size": 2,
            "learning_rate": RATE,
            "lr_scheduler_type": "constant",
            "adam_beta1": 0.8,
            "adam_beta2": 0.95,
            "weight_decay": 0.1,
            "use_cpu": True,
            "report_to": [],
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "optim": "adamw_torch",
        }
        | case.arguments
    )
    rows = [{"input_ids": torch.arange(8) + 10 * n, "labels": torch.arange(8) + 10 * n} for n in range(4)]
    own = None if case.optimizer is None else case.optimizer(model)
    trainer = Trainer(model, arguments, default_data_collator, rows, optimizers=(own, None))
    trainer.train()
    path = folder / "checkpoint-2"
    PreTrainedTokenizerFast.from_pretrained(base).save_pretrained(path)
    case.after(path, trainer)
    try:
        checkpoint = Checkpoint.read([path], base=str(base))[0]
        decoder = checkpoint.load()
        views = plain_views(decoder, TeacherSettings.named("less"))
        found = AdamMoments.of(checkpoint, decoder, views)
    except InflucoderError as error:
        return {"refused": str(error).replace(f"{folder}/", "").replace(f"{base.parent}/", "")}
    state = getattr(trainer.optimizer, "optimizer", trainer.optimizer).state
    expected = {plain_name(name): state[one] for name, one in trainer.model.named_parameters() if one in state}
    errors = [
        float((moments[view.name] - expected[view.name][part].T.float().flatten()).abs().max())
        for view in views
        for moments, part in ((found.first, "exp_avg"), (found.second, "exp_avg_sq"))
    ]
    betas = next(tuple(group["betas"]) for group in trainer.optimizer.param_groups)
    return {"error": max(errors), "views": len(views), "betas": found.betas == betas}


def record() -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = make_base(Path(folder, "base"))
        for number, case in enumerate(cases()):
            rows.append({"name": case.name, **outcome(case, base, Path(folder, f"run-{number}"))})
            print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def first_sentence(text: str) -> str:
    """What a message says, without its remedy."""
    return text.partition(". ")[0] + "."


def page(rows: list[dict[str, Any]]) -> str:
    def said(row: dict[str, Any]) -> str:
        if "refused" in row:
            return "refused"
        right = row["error"] == 0 and row["betas"]
        return f"read, {row['views']} of {row['views']} the same" if right else f"**wrong**, off by {row['error']:.2g}"

    lines = "".join(f"| {row['name']} | {said(row)} |\n" for row in rows)
    refused = {row["name"]: first_sentence(row["refused"]) for row in rows if "refused" in row}
    words = "".join(f"- **{name}**: {text}\n" for name, text in refused.items())
    counts = {word: sum(said(row).startswith(word) for row in rows) for word in ("read", "refused", "**wrong")}
    versions = {"transformers": transformers.__version__, "peft": peft.__version__, "torch": torch.__version__}
    head = HEAD.format(versions=", ".join(f"{name} {one.partition('+')[0]}" for name, one in versions.items()))
    why = f"## What is refused, and why\n\nEach message ends with what to do.\n\n{words}"
    found = f"{counts['read']} read, {counts['refused']} refused, {counts['**wrong']} wrong."
    return f"{head}\n{found}\n\n| run | `less` |\n|---|---|\n{lines}\n{why}"


HEAD = """# Optimizer states

`--teacher less` divides pool gradients by Adam's moments, so it reads the state that training left beside each
checkpoint: `optimizer.safetensors` (ours), `optimizer.pt` (the Trainer's, TRL's) or `optimizer.bin` (accelerate's,
FSDP's, LESS's). `--teacher tracin` needs none. The latter two are pickles, read with torch's `weights_only`: nothing in
them is run.

States by name are matched by name. Numbered ones are matched by the names that newer optimizers keep; else by the
groups that the Trainer, LoRA+ and plain AdamW make, where sizes and shapes are the same; else by shape, where all
parameters of a shape stand in one group, in the order of the model. A parameter that cannot be matched is named, and so
is an optimizer that is not Adam. Of an adapter, `less` looks at LoRA's A and B; what else was trained is left out.

What each cell says: *read*, every moment equal to the optimizer's own in memory; *refused* by name; or *wrong*.

Made by `scripts/measure/optimizer_states.py` from two steps of the Trainer each ({versions}); what DeepSpeed, XLA and
sharded FSDP leave is imitated by their files' names.
"""


if __name__ == "__main__":
    text = page(record())
    Path(sys.argv[1]).write_text(text, encoding="utf-8") if len(sys.argv) > 1 else print(text)
