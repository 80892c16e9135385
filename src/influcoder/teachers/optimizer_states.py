"""What Adam remembers of each parameter, read from the files that training leaves, never by running code.

    optimizer.safetensors   ours: tensors `{parameter}.exp_avg` and `{parameter}.exp_avg_sq`
    optimizer.pt            the Hugging Face Trainer's, and TRL's: parameters by number, in groups
    optimizer.bin           accelerate's by number, FSDP's (and LESS's) by name

The latter two are pickles: they are read with torch's `weights_only`, which builds tensors and plain containers and
runs nothing. Numbers become names by the names that newer optimizers keep, else by the orders that trainers are known
to put parameters in, else by shape, where all parameters of a shape stand in one group. What then has no name is told.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from influcoder.errors import ModelError, some_of
from influcoder.model.adapters import plain_name
from influcoder.model.decoder import Decoder
from influcoder.teachers.optimizer_kinds import refuse_other_optimizer

Shape = tuple[int, ...]
Groups = list[list[Any]]
BETAS = (0.9, 0.999)
_FILES = ("optimizer.safetensors", "optimizer.pt", "optimizer.bin")
_IN_PARTS = {
    "global_step*": "DeepSpeed's, which ZeRO divides among processes",
    "*zero_pp_rank_*": "DeepSpeed's, which ZeRO divides among processes",
    "zero_to_fp32.py": "DeepSpeed's, which ZeRO divides among processes",
    "mp_rank_*": "DeepSpeed's",
    "optimizer_*/*.distcp": "FSDP's in shards (choose FULL_STATE_DICT)",
    "rank*-of-*-optimizer.pt": "XLA's in shards",
    "optimizer.pt_*": "SageMaker's in shards",
}
_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
"""the Trainer's patterns of parameters without weight decay"""


@dataclass(frozen=True, slots=True)
class AdamState:
    """Adam's moments by plain parameter name.

    Attributes:
        moments: (m, v) of the parameters that could be told apart.
        betas: their decay rates.
        reasons: why other parameters have none, by name.
    """

    moments: dict[str, tuple[Tensor, Tensor]]
    betas: tuple[float, float]
    reasons: dict[str, str] = field(default_factory=dict)


def find_state(folder: Path) -> Path:
    """The file with the optimizer's state in a checkpoint's folder.

    Raises:
        ModelError: none, or one in parts that are not read; the message names who left it.
    """
    for name in _FILES:
        if (folder / name).is_file():
            return folder / name
    for pattern, whose in _IN_PARTS.items():
        if any(folder.glob(pattern)):
            raise ModelError(
                f"{folder}: the optimizer's state is {whose}; less reads whole ones, {', '.join(_FILES)}. Train a few "
                "steps with AdamW in one process, as LESS warms up, or use tracin, which needs no state."
            )
    raise ModelError(
        f"{folder}: neither optimizer.safetensors nor optimizer.pt nor optimizer.bin here; less needs the optimizer's "
        "state. Save checkpoints with it (Trainer: save_only_model=False), or use tracin."
    )


def read_state(path: Path, decoder: Decoder) -> AdamState:
    """Adam's moments of a checkpoint's parameters.

    Args:
        decoder: the checkpoint's; its parameters are the ones that are named.

    Raises:
        ModelError: damaged, a pickle that would run code, another optimizer's, or without a step.
    """
    if path.suffix == ".safetensors":
        return _by_suffix(path)
    saved = _load(path)
    state, groups = saved["state"], saved["param_groups"]
    betas = refuse_other_optimizer(path, state, groups) or BETAS
    numbers: Groups = [list(group["params"]) for group in groups]
    if any(isinstance(key, str) for key in state):
        names = {key: key for key in state}
    elif all("param_names" in group for group in groups if group["params"]):
        pairs = zip(groups, numbers, strict=True)
        names = {
            key: name for group, keys in pairs if keys for key, name in zip(keys, group["param_names"], strict=True)
        }
    else:
        named, reasons = match(numbers, {key: tuple(kept["exp_avg"].shape) for key, kept in state.items()}, decoder)
        return AdamState(_moments(path, state, named), betas, reasons)
    return AdamState(_moments(path, state, _plain(path, names)), betas)


def match(groups: Groups, shapes: Mapping[Any, Shape], decoder: Decoder) -> tuple[dict[Any, str], dict[str, str]]:
    """(name by number, reason by name without a number) of parameters that an optimizer only numbers.

    Args:
        groups: the numbers, as they lie in its groups.
        shapes: by number, of those that it has stepped.
    """
    trained = trained_parameters(decoder)
    groups = [group for group in groups if group]
    for order in ([group for group in order if group] for order in _known_orders(decoder, trained)):
        pairs = [pair for keys, names in zip(groups, order, strict=False) for pair in zip(keys, names, strict=False)]
        if list(map(len, groups)) == list(map(len, order)) and all(
            shapes.get(key, trained[name]) == trained[name] for key, name in pairs
        ):
            return dict(pairs), {}
    return _by_shape(groups, shapes, trained)


def trained_parameters(decoder: Decoder) -> Mapping[str, Shape]:
    """Shape of the parameters that training changed, by plain name, in the order of the model."""
    if decoder.merged is not None:
        return decoder.merged.trained
    return {name: tuple(parameter.shape) for name, parameter in decoder.model.named_parameters()}


def _known_orders(decoder: Decoder, trained: Mapping[str, Shape]) -> Iterator[list[list[str]]]:
    """The groups that trainers make: one; the Trainer's by weight decay; those of LoRA+ (PEFT)."""
    names = list(trained)
    yield [names]
    if decoder.merged is None:
        from transformers.trainer_pt_utils import get_parameter_names

        decayed = set(get_parameter_names(decoder.model, [torch.nn.LayerNorm], [_NO_DECAY.pattern]))
    else:
        decayed = {name for name in names if not _NO_DECAY.search(name.lower())}
    yield [[name for name in names if (name in decayed) is side] for side in (True, False)]
    kinds: dict[str, list[str]] = {kind: [] for kind in ("A", "embedding", "B", "B without decay")}
    for name, shape in trained.items():
        b = "B" if name in decayed else "B without decay"
        kinds["embedding" if "lora_embedding" in name else b if "lora_B" in name or len(shape) == 1 else "A"].append(
            name
        )
    yield list(kinds.values())


def _by_shape(
    groups: Groups, shapes: Mapping[Any, Shape], trained: Mapping[str, Shape]
) -> tuple[dict[Any, str], dict[str, str]]:
    """All parameters of a shape, where they stand in one group: in the order of the model."""
    here: dict[Shape, list[str]] = defaultdict(list)
    for name, shape in trained.items():
        here[shape].append(name)
    there: dict[Shape, list[tuple[int, Any]]] = defaultdict(list)
    for number, keys in enumerate(groups):
        for key in keys:
            if key in shapes:
                there[shapes[key]].append((number, key))
    unknown = sum(key not in shapes for keys in groups for key in keys)
    names_by_key: dict[Any, str] = {}
    reasons: dict[str, str] = {}
    for shape, names in here.items():
        places = there[shape]
        in_groups = sorted({number for number, _ in places})
        if len(places) == len(names) and len(in_groups) == 1 and not unknown:
            names_by_key |= {key: name for (_, key), name in zip(places, names, strict=True)}
            continue
        why = f"of shape {shape} it holds {len(places)}, the model has {len(names)}"
        if len(in_groups) > 1:
            why += f"; they stand in {len(in_groups)} of its groups, and nothing says which is which"
        if unknown:
            why += f"; {unknown} others have no state"
        reasons |= dict.fromkeys(names, why)
    return names_by_key, reasons


def _by_suffix(path: Path) -> AdamState:
    try:
        tensors = safetensors.torch.load_file(path)
    except Exception as error:  # the format's reader raises its own
        raise ModelError(f"{path}: not a safetensors file ({error}). Save the checkpoint again.") from error
    names = [name.removesuffix(".exp_avg") for name in tensors if name.endswith(".exp_avg")]
    unpaired = [name for name in names if f"{name}.exp_avg_sq" not in tensors]
    if unpaired:
        raise ModelError(f"{path}: {unpaired[0]} has exp_avg and no exp_avg_sq. Save the checkpoint again.")
    state = {name: {key: tensors[f"{name}.{key}"] for key in ("exp_avg", "exp_avg_sq")} for name in names}
    first, second = trainer_facts(path.parent).get("betas", BETAS)
    return AdamState(_moments(path, state, _plain(path, {name: name for name in names})), (float(first), float(second)))


def _load(path: Path) -> Mapping[str, Any]:
    saved: Any = None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise errors of every class
        other = re.search(r"GLOBAL ([\w.]+)", str(error))
        cause = f"it holds a {other[1]}, not only tensors" if other else "it is damaged"
        raise ModelError(
            f"{path}: not an optimizer's state that torch can read safely: {cause}. Expected AdamW's "
            "(Trainer: optim='adamw_torch'), saved whole; or use tracin, which needs no state."
        ) from error
    if isinstance(saved, dict) and "ds_config" in saved:
        raise ModelError(f"{path}: the state is DeepSpeed's, which is not read. Train with AdamW, or use tracin.")
    groups = saved.get("param_groups") if isinstance(saved, dict) else None
    whole = isinstance(groups, list) and all(isinstance(group, dict) and "params" in group for group in groups)
    if not isinstance(saved, dict) or not whole or not isinstance(saved.get("state"), dict):
        raise ModelError(
            f"{path}: not an optimizer's state: it has no `state` and `param_groups`. "
            "Expected what optimizer.state_dict() gives."
        )
    if not saved["state"]:
        raise ModelError(
            f"{path}: the optimizer remembers nothing: it has not made a step, or is one that keeps no state, such as "
            "plain SGD. Give a checkpoint from after the first step of AdamW, or use tracin, which needs no state."
        )
    return saved


def _plain(path: Path, names: Mapping[Any, str]) -> dict[Any, str]:
    """Plain names, which must stay different."""
    plain: dict[Any, str] = {key: plain_name(name) for key, name in names.items()}
    seen: dict[str, Any] = {}
    for key, name in plain.items():
        if name in seen:
            raise ModelError(
                f"{path}: {names[seen[name]]} and {names[key]} are both {name}: the state of two adapters. "
                "Save one of them."
            )
        seen[name] = key
    return plain


def _moments(
    path: Path, state: Mapping[Any, Mapping[str, Tensor]], names: Mapping[Any, str]
) -> dict[str, tuple[Tensor, Tensor]]:
    moments = {names[key]: (kept["exp_avg"], kept["exp_avg_sq"]) for key, kept in state.items() if key in names}
    bad = [name for name, pair in moments.items() if not all(bool(moment.isfinite().all()) for moment in pair)]
    if bad:
        raise ModelError(f"{path}: the moments of {some_of(bad)} are not finite. Give a checkpoint from before.")
    return moments


def trainer_facts(folder: Path) -> Mapping[str, Any]:
    """What trainer_state.json holds; nothing where there is none.

    Raises:
        ModelError: it is not JSON.
    """
    path = folder / "trainer_state.json"
    if not path.exists():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}). Save the checkpoint again.") from error
    return facts if isinstance(facts, dict) else {}
