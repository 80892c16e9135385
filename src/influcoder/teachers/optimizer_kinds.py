"""Which optimizer left a state: Adam's is told from all others, which are refused by name.

A state is Adam's when it holds exp_avg and exp_avg_sq of each parameter, whole and in plain numbers, and nothing else
that a step depends on.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from influcoder.errors import ModelError

_ADAM = {"step", "exp_avg", "exp_avg_sq"}
_BY_STATE = {
    "__bnb_optimizer_quant_state__": "bitsandbytes (8-bit, paged or 32-bit)",
    "qmap1": "bitsandbytes (8-bit)",
    "state1": "bitsandbytes (8-bit, paged or 32-bit)",
    "exp_avg_sq_row": "Adafactor",
    "row_var": "Adafactor",
    "max_exp_avg_sq": "AMSGrad",
    "mu_product": "NAdam",
    "exp_inf": "Adamax",
    "exp_avg_diff": "Adan",
    "exp_avg_slow": "AdEMAMix",
    "hessian": "Sophia",
    "projector": "GaLore or Apollo",
    "grok_ema": "GrokAdamW",
    "p0": "Prodigy",
    "vmean": "Adam-mini",
    "z": "a schedule-free optimizer",
    "acc_delta": "Adadelta",
    "square_avg": "RMSprop",
    "sum": "Adagrad",
    "momentum_buffer": "SGD with momentum, or Muon",
}
"""names of a state's parts that only these optimizers keep"""
_BY_GROUP = {
    "momentum_decay": "NAdam",
    "momentum": "SGD",
    "use_nvlamb": "LAMB",
    "trust_clip": "LAMB",
    "always_adapt": "LAMB",
    "grad_averaging": "LAMB",
    "update_proj_gap": "GaLore or Apollo",
    "d_coef": "Prodigy or D-Adaptation",
    "d0": "Prodigy or D-Adaptation",
    "weight_lr_power": "a schedule-free optimizer",
    "t_alpha": "bitsandbytes",
}
"""settings that only these optimizers have, whose states look like Adam's"""


def refuse_other_optimizer(
    path: Path, state: Mapping[Any, Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]
) -> tuple[float, float] | None:
    """Adam's betas; None where the groups do not say them.

    Raises:
        ModelError: the state is another optimizer's; the message names it.
    """
    used = [group for group in groups if group["params"]] or list(groups)
    whose = _other(state, used)
    if whose is not None:
        raise ModelError(
            f"{path}: the state of {whose}, not of Adam, whose two moments less divides by. Train with AdamW (Trainer: "
            "optim='adamw_torch'), or use tracin, which needs no state."
        )
    betas = {tuple(float(beta) for beta in group["betas"]) for group in used if "betas" in group}
    if len(betas) > 1 or any(len(pair) != 2 for pair in betas):
        raise ModelError(
            f"{path}: its groups have the betas {sorted(betas)}, expected one pair for all. Train with one, or use "
            "tracin."
        )
    return next(((first, second) for first, second in betas), None)


def _other(state: Mapping[Any, Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> str | None:
    """The name of the optimizer, if it is not Adam."""
    if not all(isinstance(kept, Mapping) for kept in state.values()):
        return "an optimizer that keeps something else than tensors"
    parts = {str(part) for kept in state.values() for part in kept}
    for names, known in ((parts, _BY_STATE), ({key for group in groups for key in group}, _BY_GROUP)):
        for name, whose in known.items():
            if name in names:
                return whose
    if any(group.get("amsgrad") for group in groups):
        return "AMSGrad"
    if any("decoupled_weight_decay" in group and "amsgrad" not in group for group in groups):
        return "RAdam"
    if "exp_avg_sq" not in parts:
        return "Lion" if "exp_avg" in parts else f"an optimizer that keeps {', '.join(sorted(parts)) or 'nothing'}"
    if parts - _ADAM:
        return f"an optimizer that keeps {', '.join(sorted(parts - _ADAM))} besides Adam's moments"
    moments = [kept[part] for kept in state.values() for part in ("exp_avg", "exp_avg_sq") if part in kept]
    if len(moments) != 2 * len(state) or not all(map(_plain, moments)):
        return "an optimizer whose moments are quantised, sharded or missing for some parameters"
    return None


def _plain(moment: Any) -> bool:
    return type(moment) is torch.Tensor and moment.is_floating_point() and moment.layout == torch.strided
