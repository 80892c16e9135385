"""Checkpoints of a training run, and what its optimizer remembers.

An optimizer's state is read from `optimizer.safetensors` (a tensor `{parameter}.exp_avg` and
`{parameter}.exp_avg_sq` each) or from the `optimizer.pt` that the Hugging Face Trainer writes. The latter is a
pickle: it is read with torch's `weights_only`, which builds tensors and plain containers and runs nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from influcoder.errors import ModelError
from influcoder.model import remote_code
from influcoder.model.decoder import Decoder
from influcoder.model.layers import View
from influcoder.store.files import sha256

Moments = dict[str, tuple[Tensor, Tensor]]
"""Adam's two moments by parameter name"""
BETAS = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One moment of a training run.

    Attributes:
        path: its folder: a whole model, or the LoRA adapter of `base`.
        weight: its share in the sum over checkpoints: the learning rate there.
        base: the decoder an adapter belongs to.
        max_length, trust_remote_code: as of `Decoder.load`.
    """

    path: Path
    weight: float = 1.0
    base: str | None = None
    max_length: int = 1024
    trust_remote_code: bool = False

    @classmethod
    def read(
        cls, paths: Sequence[str | Path], *, base: str | None = None, max_length: int = 1024
    ) -> "list[Checkpoint]":
        """Checkpoints with the learning rates of their `trainer_state.json`, which all or none of them have.

        Raises:
            ModelError: only some say their learning rate.
        """
        rates = {Path(path): _learning_rate(Path(path)) for path in paths}
        known = [path for path, rate in rates.items() if rate is not None]
        if known and len(known) < len(rates):
            unknown = next(path for path, rate in rates.items() if rate is None)
            raise ModelError(
                f"{known[0]} says its learning rate and {unknown} does not (trainer_state.json): checkpoints are "
                "weighted by it, so give them all one, or none."
            )
        return [
            cls(
                path,
                1.0 if rate is None else rate,
                base if (path / "adapter_config.json").exists() else None,
                max_length,
                remote_code.allowed(),
            )
            for path, rate in rates.items()
        ]

    def load(self) -> Decoder:
        """The decoder as it was then."""
        base, adapter = (self.path, None) if self.base is None else (self.base, self.path)
        return Decoder.load(base, adapter=adapter, max_length=self.max_length, trust_remote_code=self.trust_remote_code)

    @property
    def optimizer(self) -> Path | None:
        """The file with its optimizer's state, if there is one."""
        files = (self.path / name for name in ("optimizer.safetensors", "optimizer.pt"))
        return next((file for file in files if file.exists()), None)


@dataclass(frozen=True, slots=True)
class AdamMoments:
    """Adam's two moments, as the steps of training used them.

    Attributes:
        first, second: by view name, laid out as the view's gradient.
        betas: their decay rates.
        file_sha256: of the file they come from.
    """

    first: dict[str, Tensor]
    second: dict[str, Tensor]
    betas: tuple[float, float]
    file_sha256: str

    def step(self, view: View, gradient: Tensor) -> Tensor:
        """What Adam would make of (n, length) gradients: (β₁m + (1 - β₁)g) / √(β₂v + (1 - β₂)g² + ε).

        As LESS has it (Xia et al. 2024, arXiv 2402.04333): without bias correction, ε = 1e-8 inside the root.
        """
        first, second = self.betas
        m, v = (moments[view.name].to(gradient.device) for moments in (self.first, self.second))
        root = (second * v + (1 - second) * gradient.square() + 1e-8).sqrt()
        return (first * m + (1 - first) * gradient) / root

    @classmethod
    def of(cls, checkpoint: Checkpoint, decoder: Decoder, views: Sequence[View]) -> "AdamMoments":
        """The moments of the parameters that `views` are gradients of.

        Raises:
            ModelError: no optimizer state, or one of another model; the message names both sides.
        """
        path = checkpoint.optimizer
        if path is None:
            raise ModelError(
                f"{checkpoint.path}: neither optimizer.safetensors nor optimizer.pt here; less needs the "
                "optimizer's state. Save checkpoints with it (Trainer: save_only_model=False), or use tracin."
            )
        found, betas = _safetensors_state(path) if path.suffix == ".safetensors" else _trainer_state(path, decoder)
        first, second = {}, {}
        for view in views:
            pair = found.get(view.name)
            expected = _parameter_shape(view)
            if pair is None or any(tuple(one.shape) != expected for one in pair):
                shapes = "nothing" if pair is None else f"{tuple(pair[0].shape)}"
                raise ModelError(
                    f"{path}: the optimizer of another model: it holds {shapes} for {view.name}, which is "
                    f"{expected} in {decoder.name}. Give the state that was saved with this checkpoint."
                )
            first[view.name], second[view.name] = (_as_view(view, one) for one in pair)
        return cls(first, second, betas, sha256(path))


def _as_stored(view: View) -> bool:
    """Whether a parameter is laid out as its view: Conv1D's weights are, everything else is its transpose."""
    return isinstance(view.module, Conv1D) and view.right is None and view.left is None


def _parameter_shape(view: View) -> tuple[int, int]:
    rows, columns = view.shape
    return (rows, columns) if _as_stored(view) else (columns, rows)


def _as_view(view: View, moment: Tensor) -> Tensor:
    return (moment if _as_stored(view) else moment.T).float().flatten()


def _safetensors_state(path: Path) -> tuple[Moments, tuple[float, float]]:
    try:
        tensors = safetensors.torch.load_file(path)
    except Exception as error:  # the format's reader raises its own
        raise ModelError(f"{path}: not a safetensors file ({error}). Save the checkpoint again.") from error
    names = [name.removesuffix(".exp_avg") for name in tensors if name.endswith(".exp_avg")]
    unpaired = [name for name in names if f"{name}.exp_avg_sq" not in tensors]
    if unpaired:
        raise ModelError(f"{path}: {unpaired[0]} has exp_avg and no exp_avg_sq. Save the checkpoint again.")
    moments = {plain_name(name): (tensors[f"{name}.exp_avg"], tensors[f"{name}.exp_avg_sq"]) for name in names}
    first, second = _trainer_facts(path.parent).get("betas", BETAS)
    return moments, (float(first), float(second))


def _trainer_state(path: Path, decoder: Decoder) -> tuple[Moments, tuple[float, float]]:
    """The Trainer's state by parameter name: it numbers parameters, those with weight decay first."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        groups, states = [group["params"] for group in saved["param_groups"]], saved["state"]
        first, second = saved["param_groups"][0].get("betas", BETAS)
    except Exception as error:  # damaged archives raise errors of every class
        raise ModelError(f"{path}: not an optimizer's state that torch can read safely ({error}).") from error
    in_order, decay = _trained(decoder), _decay_groups(decoder)
    sizes = tuple(map(len, groups))
    if sizes not in ((len(in_order),), tuple(map(len, decay))):
        raise ModelError(
            f"{path}: the optimizer of another model: it has {sum(sizes)} parameters in groups of {sizes}, "
            f"{decoder.name} {len(in_order)}, of which {len(decay[0])} decay. "
            "Give the state that was saved with this checkpoint."
        )
    names = in_order if len(sizes) == 1 else [name for group in decay for name in group]
    numbers = [number for group in groups for number in group]
    named = zip(names, (states.get(number, {}) for number in numbers), strict=True)
    moments = {name: (one["exp_avg"], one["exp_avg_sq"]) for name, one in named if "exp_avg" in one}
    return moments, (float(first), float(second))


def _trained(decoder: Decoder) -> list[str]:
    """The names of the parameters that training changed, in its order."""
    if decoder.adapter:
        return [f"{name}.lora_{side}" for name in decoder.adapter for side in "AB"]
    return [name for name, _ in decoder.model.named_parameters()]


def _decay_groups(decoder: Decoder) -> list[list[str]]:
    names = _trained(decoder)
    if decoder.adapter:  # neither A nor B is a norm or a bias: all of them decay
        return [names, []]
    from transformers.trainer_pt_utils import get_parameter_names

    forbidden = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    decayed = set(get_parameter_names(decoder.model, [torch.nn.LayerNorm], forbidden))
    return [[name for name in names if (name in decayed) is side] for side in (True, False)]


def plain_name(name: str) -> str:
    """A parameter's name without what PEFT puts around it."""
    return (
        name.removeprefix("base_model.model.").replace(".default", "").replace(".weight", "")
        if "lora_" in name
        else name
    )


def _trainer_facts(folder: Path) -> Mapping[str, Any]:
    path = folder / "trainer_state.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}). Save the checkpoint again.") from error
    return found if isinstance(found, dict) else {}


def _learning_rate(folder: Path) -> float | None:
    """The mean learning rate that led to a checkpoint: our own key, or the last logged by the Trainer."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; expected a checkpoint that training saved.")
    facts = _trainer_facts(folder)
    logged = [one["learning_rate"] for one in facts.get("log_history", []) if "learning_rate" in one]
    found = facts.get("learning_rate", logged[-1] if logged else None)
    return None if found is None else float(found)
