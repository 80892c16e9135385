"""Checkpoints of a training run, and what its optimizer remembers, as the steps of training used it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from influcoder.errors import ModelError
from influcoder.model import remote_code
from influcoder.model.adapter_folder import base_and_adapter
from influcoder.model.decoder import Decoder
from influcoder.model.layers import View
from influcoder.store.files import sha256
from influcoder.teachers.optimizer_states import find_state, read_state, trainer_facts


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
        adapters = any((Path(path) / "adapter_config.json").exists() for path in paths)
        if base is not None and adapters:  # which may be an adapter's folder itself
            base = str(base_and_adapter(base, None)[0])
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
            ModelError: no state of Adam's, or one of another model; the message names both sides.
        """
        path = find_state(checkpoint.path)
        state = read_state(path, decoder)
        first, second = {}, {}
        for view in views:
            pair, expected = state.moments.get(view.name), _parameter_shape(view)
            if pair is None or any(tuple(moment.shape) != expected for moment in pair):
                why = state.reasons.get(view.name) or f"it holds {_shape_of(pair)}"
                raise ModelError(
                    f"{path}: the optimizer of another model, or of a part of this one: {decoder.name} has {view.name} "
                    f"of shape {expected}; {why}. Give the state that was saved with this checkpoint."
                )
            first[view.name], second[view.name] = (_as_view(view, moment) for moment in pair)
        return cls(first, second, state.betas, sha256(path))


def _shape_of(pair: tuple[Tensor, Tensor] | None) -> str:
    return "nothing" if pair is None else f"{tuple(pair[0].shape)}"


def _as_stored(view: View) -> bool:
    """Whether a parameter is laid out as its view: Conv1D's weights are, everything else is its transpose."""
    return isinstance(view.module, Conv1D) and view.right is None and view.left is None


def _parameter_shape(view: View) -> tuple[int, int]:
    rows, columns = view.shape
    return (rows, columns) if _as_stored(view) else (columns, rows)


def _as_view(view: View, moment: Tensor) -> Tensor:
    return (moment if _as_stored(view) else moment.T).float().flatten()


def _learning_rate(folder: Path) -> float | None:
    """The mean learning rate that led to a checkpoint: our own key, or the last logged by the Trainer."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder; expected a checkpoint that training saved.")
    facts = trainer_facts(folder)
    logged = [step["learning_rate"] for step in facts.get("log_history", []) if "learning_rate" in step]
    rate = facts.get("learning_rate", logged[-1] if logged else None)
    return None if rate is None else float(rate)


def refuse_other_shapes(
    checkpoint: Checkpoint, views: Sequence[View], decoder: Decoder, expected: Sequence[View]
) -> None:
    """See that gradients of a checkpoint can be added up with the decoder's, which `expected` are views of.

    Raises:
        ModelError: they are those of another model.
    """
    remedy = "Give checkpoints of one training run."
    if checkpoint.base is not None and not decoder.adapter:
        remedy = f"It is an adapter, whose own matrices count: give one of its run, as --adapter {checkpoint.path}."
    for here, there in zip(views, expected, strict=False):
        if (here.name, here.shape) != (there.name, there.shape):
            raise ModelError(
                f"{checkpoint.path}: {here.name} has shape {here.shape}, {decoder.name} has {there.name} of "
                f"{there.shape}. {remedy}"
            )
    if len(views) != len(expected):
        raise ModelError(
            f"{checkpoint.path} has {len(views)} gradients to take, {decoder.name} {len(expected)}. {remedy}"
        )
