"""What a tiny model of an architecture is put through: its features against one-by-one autograd."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from influcoder.data.examples import Example
from influcoder.errors import InflucoderError
from influcoder.model.batches import Tokens, make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.gradients import LayerGradients
from influcoder.model.layers import View, adapter, lora_b
from influcoder.model.linear import Layer, of_layer, weight_of
from influcoder.model.products import Block
from influcoder.teachers.self_check import self_check
from influcoder.teachers.settings import TeacherSettings
from tiny_models import tiny_model, tiny_tokenizer

TOLERANCE = 1e-4
DIFFERENCES = ("difference", "layer_difference", "batch_difference")
MAX_LENGTH = 64
PAIRS = [
    ("What is the capital of France? ", "Paris"),
    ("What is the capital of Italy? ", "Rome is the capital of Italy."),
    ("", "Hello world, this is a whole text without a prompt, and it is longer than the windows of these models are."),
    ("Two plus two is ", "four"),
    ("Three plus four, and also a somewhat longer prompt than all the others here, is ", "seven; not eight"),
]
EXAMPLES = [Example(f"e{number}", prompt, completion) for number, (prompt, completion) in enumerate(PAIRS)]


def examine(name: str, folder: Path) -> dict[str, Any]:
    """The outcome of one model type, with its numbers: verified, refused, wrong, or not built."""
    try:
        model = tiny_model(name)
        model.save_pretrained(folder / "base")
        tiny_tokenizer().save_pretrained(folder / "base")
    except Exception as error:  # configs and classes raise errors of every kind
        return {"outcome": "not built", "why": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    facts = {"class": type(model).__name__, "parameters": sum(one.numel() for one in model.parameters())}
    modules: str | None = None
    for _ in range(4):
        try:
            return facts | {"modules": modules} | _measured(folder, modules)
        except InflucoderError as error:
            advice = re.search(r"--modules (.*)$", str(error))
            if advice is None:
                return facts | {"outcome": "refused", "why": _without(folder, str(error))}
            modules = " ".join(shlex.split(advice.group(1)))
    return facts | {"outcome": "refused", "why": f"advice that does not help: {modules}"}


def _measured(folder: Path, modules: str | None) -> dict[str, Any]:
    decoder = Decoder.load(folder / "base", max_length=MAX_LENGTH, device="cpu")
    settings = TeacherSettings(rank=4, width=0, precision="fp32", modules=modules)
    checked = self_check(decoder, EXAMPLES, settings)
    views, tokens = lora_b(decoder, rank=4, seed=0, modules=modules), decoder.tokenise(EXAMPLES)
    truth = one_by_one(folder / "base", decoder, views, tokens)
    together, batched = gradients(decoder, views, tokens)
    alone, _ = gradients(decoder, views, tokens, budget=1)
    found: dict[str, Any] = {
        "layers": len(views),
        "share": share(decoder, [view.module for view in views]),
        "batched": batched,
        "difference": difference(together, truth),
        "layer_difference": layer_difference(together, truth, [view.length for view in views]),
        "batch_difference": difference(together, alone),
        "self_check": checked["error"],
        "bf16_cosine": _in_bf16(decoder, views, tokens, truth),
        "adapter": _with_adapter(folder, views, modules),
    }
    if any(found[key] > TOLERANCE for key in DIFFERENCES):
        found |= _in_float64(decoder, views, tokens, truth)
    numbers = [found[key] for key in DIFFERENCES]
    numbers += [one for one in found["adapter"].values() if isinstance(one, float)]
    right = all(number <= TOLERANCE for number in numbers)
    return {"outcome": ("verified" if modules is None else "verified with --modules") if right else "wrong"} | found


def _in_float64(decoder: Decoder, views: list[View], tokens: Sequence[Tokens], truth: Tensor) -> dict[str, Any]:
    """The same differences by the same engine in float64, which tells a mistake from what float32 rounds."""
    try:
        decoder.model.double()
        together, _ = gradients(decoder, views, tokens)
        alone, _ = gradients(decoder, views, tokens, budget=1)
    except Exception:  # float32 is written into its code
        return {"float64": False}
    finally:
        decoder.model.float()
    return {
        "float64": True,
        "difference": difference(together, truth),
        "layer_difference": layer_difference(together, truth, [view.length for view in views]),
        "batch_difference": difference(together, alone),
    }


def gradients(decoder: Decoder, views: list[View], tokens: Sequence[Tokens], **how: Any) -> tuple[Tensor, bool]:
    """((examples, numbers) gradients of the engine, whether it took several examples at once)."""
    budget = how.pop("budget", 10_000)
    engine = LayerGradients(decoder, views, **how)
    starts = [sum(engine.lengths[:number]) for number in range(len(views) + 1)]
    found = torch.zeros(len(tokens), starts[-1])
    for batch in make_batches(tokens, engine.budget(budget), decoder.device):

        def receive(number: int, part: Tensor, places: list[int] = batch.places) -> None:
            found[places, starts[number] : starts[number + 1]] = part

        engine.run(batch, receive)
    return found, not engine.alone


def one_by_one(base: Path, decoder: Decoder, views: Sequence[View], tokens: Sequence[Tokens]) -> Tensor:
    """(examples, numbers) by plain autograd of the weights of a model that is loaded anew, in float64 where it can."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval().requires_grad_(False)
    names = {module: name for name, module in decoder.model.named_modules()}
    parameters = []
    for view in views:
        weight = weight_of(view.module)
        parameters.append(getattr(model.get_submodule(names[weight.module]), weight.name).requires_grad_(True))
    try:
        return _rows(model.double(), views, parameters, tokens)
    except Exception:  # float32 is written into its code
        return _rows(model.float(), views, parameters, tokens)


def _rows(model: nn.Module, views: Sequence[View], parameters: Sequence[Tensor], tokens: Sequence[Tokens]) -> Tensor:
    rows = []
    for one in tokens:
        found = torch.autograd.grad(loss(model, one), parameters, allow_unused=True)
        parts = []
        for view, parameter, gradient in zip(views, parameters, found, strict=True):
            whole = of_layer(view.module, torch.zeros_like(parameter) if gradient is None else gradient)
            parts.append(view.scale * (view.right.to(whole.dtype) @ whole).flatten())
        rows.append(torch.cat(parts).float())
    return torch.stack(rows)


def loss(model: nn.Module, tokens: Tokens) -> Tensor:
    """Mean cross-entropy of the completion tokens."""
    ids, first = torch.from_numpy(tokens.ids), max(tokens.start, 1)
    return nn.functional.cross_entropy(
        model(input_ids=ids[None], use_cache=False).logits[0, first - 1 : -1], ids[first:]
    )


def _with_adapter(folder: Path, views: Sequence[View], modules: str | None) -> dict[str, Any]:
    """A random LoRA adapter on all that PEFT can put one on: merged logits, and gradients of its A and B."""
    names = [view.name for view in views if type(view.module) in (nn.Linear, Conv1D)]
    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32).eval()
    swapped = any(type(view.module) is Conv1D for view in views)
    try:
        model = get_peft_model(base, LoraConfig(r=2, target_modules=names, fan_in_fan_out=swapped)).eval()
    except Exception as error:  # what PEFT cannot adapt
        return {"peft": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder / "adapter")
    try:
        decoder = Decoder.load(folder / "base", adapter=folder / "adapter", max_length=MAX_LENGTH, device="cpu")
        own = adapter(decoder, modules=modules)
    except InflucoderError as error:
        return {"refused": _without(folder, str(error))}
    tokens = decoder.tokenise(EXAMPLES)
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True).eval()
    parts = []
    for view in own:
        layer, _, part = view.name.rpartition(".")
        parts.append(getattr(model.base_model.model.get_submodule(layer), part)["default"].weight)
    rows = []
    for one in tokens:
        found = torch.autograd.grad(loss(model, one), parts, allow_unused=True)
        each = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parts, strict=True)]
        rows.append(torch.cat([gradient.T.flatten() for gradient in each]))
    with torch.no_grad():
        ids = torch.from_numpy(tokens[1].ids)[None]
        merged, apart = (each(input_ids=ids, use_cache=False).logits for each in (decoder.model, model))
    return {
        "layers": len(names),
        "merged_logits": float((merged - apart).norm() / apart.norm()),
        "difference": difference(gradients(decoder, own, tokens)[0], torch.stack(rows)),
    }


def _in_bf16(decoder: Decoder, views: list[View], tokens: Sequence[Tokens], truth: Tensor) -> float | str:
    try:
        found, _ = gradients(decoder, views, tokens, bf16=True)
    except Exception as error:  # a type that is written into its code
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return float(torch.cosine_similarity(found, truth).min())


def difference(found: Tensor, expected: Tensor) -> float:
    """Of the worst example, as a share of its length."""
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


def layer_difference(found: Tensor, expected: Tensor, lengths: list[int]) -> float:
    """Of the worst layer of the worst example, as a share of its length, or of a thousandth of the example's."""
    least = 1e-3 * expected.norm(dim=1)
    parts = zip(found.split(lengths, dim=1), expected.split(lengths, dim=1), strict=True)
    return max(float(((f - e).norm(dim=1) / torch.maximum(e.norm(dim=1), least)).max()) for f, e in parts)


def share(decoder: Decoder, layers: Sequence[Layer]) -> dict[str, float]:
    """The share of the parameters, head and embeddings apart, that the layers hold; and of those in experts."""
    model = decoder.model
    apart = {id(one) for module in model.modules() if isinstance(module, nn.Embedding) for one in module.parameters()}
    apart |= {id(one) for one in model.get_output_embeddings().parameters()}
    known = {id(one): (name, one.numel()) for name, one in model.named_parameters() if id(one) not in apart}
    seen: dict[int, int] = {}
    for layer in layers:
        size = layer.inputs * layer.outputs if isinstance(layer, Block) else weight_of(layer).tensor.numel()
        seen[id(weight_of(layer).tensor)] = seen.get(id(weight_of(layer).tensor), 0) + size
    experts = {key: size for key, (name, size) in known.items() if ".experts." in name or ".expert" in name}
    total = sum(size for _, size in known.values())
    found = {"all": sum(seen.values()) / total}
    if experts:
        found |= {
            "in_experts": sum(experts.values()) / total,
            "of_experts": sum(size for key, size in seen.items() if key in experts) / sum(experts.values()),
        }
    return {key: round(value, 4) for key, value in found.items()}


def _without(folder: Path, message: str) -> str:
    return message.replace(f"{folder}/", "")
