"""Teachers: what computes influence exactly, as features whose inner product it is.

`GradientTeacher` is the paper's: the gradient of a fresh seeded LoRA adapter's B matrices, CountSketched,
scaled to unit length, so that influence is the cosine of two gradients (Kachler et al. 2026; TracIn's
inner product at one checkpoint, Pruthi et al. 2020). Higher means that a step on the pool example would
raise the likelihood of the query's completion; negative, lower it. Norms are kept, so dots can be had.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from influcoder.decoder import Decoder
from influcoder.errors import ConfigError, ModelError
from influcoder.examples import Example, to_columns, to_json
from influcoder.gradients import LoraGradients, make_batches
from influcoder.progress import progress
from influcoder.sketch import CountSketch
from influcoder.store import Store, StoreWriter

Precision = Literal["auto", "bf16", "fp32"]


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """What a gradient teacher computes.

    Attributes:
        rank: rows of each random A matrix. Influences of two seeds agree better the higher it is.
        width: numbers in the sketch of a gradient.
        seed: draws the A matrices and the sketch.
        precision: "bf16" runs the products in bfloat16; "auto" does so where the processor has it.
        token_budget: padded tokens that go through the model together.
    """

    rank: int = 64
    width: int = 32768
    seed: int = 0
    precision: Precision = "auto"
    token_budget: int = 1024

    def __post_init__(self) -> None:
        for name in ("rank", "width", "token_budget"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1.")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"precision is {self.precision!r}, expected one of {', '.join(get_args(Precision))}.")


@dataclass(frozen=True, slots=True)
class Features:
    """A teacher's features of some examples, and the facts about each.

    Attributes:
        vectors: (n, width) float32, unit rows; zero where there is no gradient.
        norms: (n,) length of each unscaled sketch.
        losses: (n,) mean cross-entropy of each completion.
        columns: token counts and flags, one value an example.
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    losses: NDArray[np.float32]
    columns: dict[str, list[Any]]


class GradientTeacher:
    """The cosine of two examples' LoRA-B gradients.

    Args:
        decoder: the model whose training is attributed.
        settings: rank, sketch width, seed, precision.
    """

    name = "gradient-cosine"

    def __init__(self, decoder: Decoder, settings: TeacherSettings | None = None) -> None:
        self.decoder = decoder
        self.settings = settings or TeacherSettings()
        bf16 = self.settings.precision == "bf16" or (self.settings.precision == "auto" and _has_bf16(decoder.device))
        self._gradients = LoraGradients(decoder, rank=self.settings.rank, seed=self.settings.seed, bf16=bf16)
        self._sketch = CountSketch(self._gradients.lengths, self.settings.width, self.settings.seed)
        self.precision = "bf16" if bf16 else "fp32"

    @property
    def made_by(self) -> dict[str, Any]:
        """Everything that changes the features."""
        settings = asdict(self.settings) | {"precision": self.precision}
        return {"teacher": self.name, **settings, **self.decoder.fingerprint}

    def features(self, examples: Sequence[Example], advance: Callable[[int], None] | None = None) -> Features:
        """Features of each example, in order.

        Raises:
            ModelError: a gradient is not finite; the message names the example.
        """
        tokens = self.decoder.tokenise(examples)
        sketches = torch.zeros(len(examples), self.settings.width)
        losses = np.zeros(len(examples), np.float32)
        for batch in make_batches(tokens, self.settings.token_budget, self.decoder.device):
            block = torch.zeros(len(batch.places), self.settings.width, device=self.decoder.device)
            found = self._gradients.run(batch, lambda layer, part, block=block: self._sketch.add(block, layer, part))  # type: ignore[misc]
            sketches[batch.places] = block.cpu()
            losses[batch.places] = found.cpu().numpy()
            if advance:
                advance(len(batch.places))
        norms = sketches.norm(dim=1)
        bad = ~torch.isfinite(norms)
        if bad.any():
            raise ModelError(
                f"the gradient of {examples[int(bad.nonzero()[0, 0])].id!r} is not finite. Use --precision fp32."
            )
        vectors = sketches / norms.clamp_min(1e-30)[:, None]
        columns = {
            "tokens": [len(one.ids) for one in tokens],
            "completion_tokens": [one.targets for one in tokens],
            "prompt_cut": [one.prompt_cut for one in tokens],
            "completion_cut": [one.completion_cut for one in tokens],
            "no_gradient": (norms == 0).tolist(),
        }
        return Features(vectors.numpy(), norms.numpy(), losses, columns)

    def write(self, examples: Sequence[Example], folder: Path, what: str = "gradients") -> Store:
        """Write the features of `examples` as a store; goes on where an earlier run stopped."""
        writer = StoreWriter(
            folder,
            kind="features",
            dim=self.settings.width,
            dtype="float16",
            ids=[example.id for example in examples],
            made_by=self.made_by | {"data": data_fingerprint(examples)},
            shard_rows=256,
        )
        with progress(what, len(examples)) as advance:
            missing = list(writer.missing())
            advance(len(examples) - sum(shard.stop - shard.start for shard in missing))
            for shard in missing:
                part = examples[shard.start : shard.stop]
                found = self.features(part, advance)
                columns = {"norm": found.norms, "loss": found.losses, **found.columns, **to_columns(part)}
                writer.write(shard, found.vectors, columns)
        return writer.finish()


def data_fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 of everything a store keeps of the examples: ids, texts, turns and metadata."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(to_json((example.id, example.prompt, example.completion, example.turns, example.metadata)))
    return digest.hexdigest()


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
