"""Fine-tune a decoder on some examples, with checkpoints that hold the optimizer's moments.

Every parameter of a copy is trained by AdamW (Loshchilov & Hutter 2019) on the loss that this package
attributes: the mean over examples of each example's mean completion cross-entropy; or, with reduction "sum", the
mean over the completion tokens of a step, as `transformers.Trainer` and TRL do. No dropout. The learning rate
warms up linearly, then decays linearly to 0.

    checkpoint-60/            after each epoch, a plain Hugging Face folder in float32
        optimizer.safetensors {name}.exp_avg and {name}.exp_avg_sq of every parameter, float32
        trainer_state.json    step, epoch, mean learning rate of that epoch, betas, eps, settings
"""

import copy
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError, ModelError, StoreError, refuse_below
from influcoder.model.attention import fast_attention
from influcoder.model.batches import Batch, Tokens, make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.loss import Reduction
from influcoder.model.precision import Precision, use_bf16
from influcoder.store.files import write_json

BETAS = (0.9, 0.999)
EPS = 1e-8
WEIGHT_DECAY = 0.01
WARM_UP = 0.1
CLIP = 1.0


@dataclass(frozen=True, slots=True)
class FinetuneSettings:
    """How a decoder is fine-tuned.

    Attributes:
        epochs: passes over the examples.
        learning_rate: its peak, reached after a tenth of the steps.
        rows_a_step: examples per step; an epoch is divided evenly rather than ending in a short step.
        seed: draws the order of the examples.
        precision: "bf16" runs the products in bfloat16; "auto" does so if the processor supports it.
        token_budget: padded tokens that go through the model together. Few on a CPU, where padding costs most.
        reduction: "mean" takes the mean over a step's examples, "sum" over all its completion tokens, as Trainer does.
    """

    epochs: int = 2
    learning_rate: float = 5e-4
    rows_a_step: int = 8
    seed: int = 0
    precision: Precision = "auto"
    token_budget: int = 512
    reduction: Reduction = "mean"

    def __post_init__(self) -> None:
        refuse_below(self, epochs=1, rows_a_step=1, token_budget=1)
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigError(f"learning_rate is {self.learning_rate}, expected a number above 0.")
        for name, choices in (("precision", get_args(Precision)), ("reduction", get_args(Reduction))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(choices)}.")

    def resolved(self, device: torch.device) -> dict[str, Any]:
        """Everything that changes the numbers on this device: "auto" is replaced by the precision it chooses there."""
        return asdict(self) | {"precision": "bf16" if use_bf16(self.precision, device) else "fp32"}


def finetune(
    decoder: Decoder,
    examples: Sequence[Example],
    settings: FinetuneSettings | None = None,
    *,
    leave_out: Collection[int] = (),
    checkpoints: Path | None = None,
    advance: Callable[[int], None] | None = None,
) -> Decoder:
    """A fine-tuned copy of the decoder; the given one stays as it is.

    The same seed gives the same weights on the same machine and number of threads.

    Args:
        leave_out: places of examples that are drawn into the steps as usual, but not trained on: the other examples
            keep their steps and rates, so that two models differ by these examples and by nothing else.
        checkpoints: a folder that gets a complete `checkpoint-<step>/` after every epoch.
        advance: called after every step with the number of examples that it read.

    Raises:
        DataError: no example has a completion token that carries loss.
        ModelError: the loss is not finite.
        StoreError: a checkpoint cannot be written.
    """
    settings = settings or FinetuneSettings()
    tokens = decoder.tokenise(examples)
    usable = np.array([place for place, text in enumerate(tokens) if text.targets > 0], np.int64)
    left_out = np.isin(usable, list(leave_out))
    if left_out.all():
        raise DataError(f"none of {len(examples)} examples has a completion token to learn from. Give at least one.")
    model = copy.deepcopy(decoder.model).float().requires_grad_(True)
    bf16 = settings.resolved(decoder.device)["precision"] == "bf16"
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
    )
    step = 0
    for epoch, (steps, rates) in enumerate(_schedule(len(usable), settings), 1):
        for places, rate in zip(steps, rates, strict=True):
            step_rows = [tokens[place] for place in usable[places[~left_out[places]]]]
            step += 1
            if not step_rows:
                continue
            optimizer.param_groups[0]["lr"] = float(rate)
            batches = batches_of(decoder, step_rows, settings.token_budget)
            if not np.isfinite(_backward(model, batches, settings.reduction, bf16)):
                raise ModelError(
                    f"{decoder.name}: the loss of fine-tuning step {step - 1} is not finite. "
                    "Lower the learning rate or use precision fp32."
                )
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            if advance is not None:
                advance(len(step_rows))
        if checkpoints is not None:
            state = {"step": step, "epoch": epoch, "learning_rate": float(rates.mean()), "settings": asdict(settings)}
            _save_checkpoint(checkpoints / f"checkpoint-{step}", decoder, model, optimizer, state)
    trained = Decoder(model, decoder.tokenizer, name=f"{decoder.name}, fine-tuned", max_length=decoder.max_length)
    trained.tokeniser = decoder.tokeniser  # it has given its warnings already
    return trained


def completion_losses(model: Any, batch: Batch, *, bf16: bool = False) -> Tensor:
    """The (n,) mean completion cross-entropies of a batch, float32, in the order of its places; differentiable."""
    with fast_attention(model), torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=bf16):
        logits = _logits(model, batch)
    each = nn.functional.cross_entropy(logits.float(), batch.targets, reduction="none") * batch.weights
    return torch.zeros(len(batch.places), device=each.device).index_add(0, batch.rows, each)


def _logits(model: Any, batch: Batch) -> Tensor:
    """The (K, V) logits of the completion tokens: the head, the largest product of a small model, runs only there."""
    read = False

    def only_with_loss(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        nonlocal read
        if inputs[0].shape[:2] != batch.ids.shape:  # the head of this model reads something else
            return None
        read = True
        return (inputs[0][batch.rows, batch.columns][None], *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(only_with_loss)
    try:
        logits: Tensor = model(input_ids=batch.ids, use_cache=False).logits
    finally:
        hook.remove()
    return logits[0] if read else logits[batch.rows, batch.columns]


@torch.no_grad()
def measure_losses(model: Any, batches: Sequence[Batch], count: int) -> NDArray[np.float32]:
    """The (count,) losses of the examples whose places are in `batches`, in float32; 0 where there is no loss."""
    losses = np.zeros(count, np.float32)
    for batch in batches:
        losses[batch.places] = completion_losses(model, batch).cpu().numpy()
    return losses


def batches_of(decoder: Decoder, tokens: Sequence[Tokens], token_budget: int) -> list[Batch]:
    """The batches that `measure_losses` reads, on the decoder's device."""
    return list(make_batches(tokens, token_budget, decoder.device))


def _schedule(count: int, settings: FinetuneSettings) -> Iterator[tuple[list[NDArray[np.int64]], NDArray[np.float64]]]:
    """An epoch at a time: the places of the examples of each of its steps, and each step's learning rate."""
    rng = np.random.default_rng(settings.seed)
    steps = -(-count // settings.rows_a_step)
    rates = settings.learning_rate * _shape(steps * settings.epochs)
    for epoch in range(settings.epochs):
        yield np.array_split(rng.permutation(count), steps), rates[epoch * steps : (epoch + 1) * steps]


def _shape(steps: int) -> NDArray[np.float64]:
    """The learning rate of each step, as a share of its peak: up, then down, never 0."""
    warm_up = max(1, round(WARM_UP * steps))
    place = np.arange(1, steps + 1)
    return np.minimum(place / warm_up, (steps + 1 - place) / (steps + 1 - warm_up))


def _backward(model: Any, batches: Sequence[Batch], reduction: Reduction, bf16: bool) -> float:
    """Add the gradient of the mean loss of a step's examples, or tokens; returns that loss."""
    counts = [torch.bincount(batch.rows.cpu(), minlength=len(batch.places)).float() for batch in batches]
    weights = counts if reduction == "sum" else [torch.ones_like(count) for count in counts]
    whole = float(sum(weight.sum() for weight in weights))
    total = 0.0
    for batch, weight in zip(batches, weights, strict=True):
        with torch.enable_grad():
            losses = completion_losses(model, batch, bf16=bf16)
            loss = losses @ weight.to(losses.device) / whole
            loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _save_checkpoint(
    folder: Path, decoder: Decoder, model: Any, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    temporary = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")  # `atomic.claim` clears what a kill leaves
    moments = {
        f"{name}.{moment}": optimizer.state[parameter][moment].contiguous()
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for moment in ("exp_avg", "exp_avg_sq")
    }
    try:
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary)
        decoder.tokenizer.save_pretrained(temporary)
        save_file(moments, temporary / "optimizer.safetensors")
        write_json(temporary / "trainer_state.json", state | {"betas": BETAS, "eps": EPS, "weight_decay": WEIGHT_DECAY})
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise StoreError(
            f"{folder}: cannot write the checkpoint: {error}. Expected a writable folder with space; make room or "
            "choose another."
        ) from error
