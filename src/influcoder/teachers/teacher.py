"""What every teacher gives: features of examples, whose inner products are influences."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from influcoder.data.examples import Example, Role
from influcoder.errors import ModelError
from influcoder.maths.lowrank import LowRankCode
from influcoder.model.batches import Tokens
from influcoder.model.decoder import Decoder
from influcoder.provenance import Provenance
from influcoder.store.codes import PLAIN, Codes, VectorCode
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.settings import TeacherSettings

Advance = Callable[[int], None]
CODES: Codes[VectorCode] = {**PLAIN, "low-rank": LowRankCode.read}
"""how features may be stored, by the name that a manifest gives"""


@dataclass(frozen=True, slots=True)
class Features:
    """A teacher's features of some examples, and the facts about each.

    Attributes:
        vectors: (n, dim) float32; zero where there is no gradient, or one that is not finite.
        norms: (n,) length of each before it was scaled for comparison.
        losses: (n,) mean cross-entropy of each completion.
        rejected: (n,) whether the features are not finite.
        columns: token counts and flags, one value an example.
        bf16: whether the products ran in bfloat16.
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float32]
    losses: NDArray[np.float32]
    rejected: NDArray[np.bool_]
    columns: dict[str, list[Any]]
    bf16: bool = False

    @classmethod
    def of(
        cls,
        raw: Tensor,
        losses: Tensor,
        tokens: Sequence[Tokens],
        settings: TeacherSettings,
        *,
        norms: Tensor | None = None,
        bf16: bool = False,
    ) -> "Features":
        """Raw features made comparable as `settings` say, with what there is to know of each example.

        Args:
            norms: lengths of the raw features, where `raw` are already without.
        """
        rejected = ~raw.isfinite().all(dim=1)
        raw = raw.masked_fill(rejected[:, None], 0)
        lengths = raw.norm(dim=1)
        norms = lengths if norms is None else norms.masked_fill(rejected, 0)
        if settings.similarity == "cosine":
            raw = raw / lengths.clamp_min(1e-30)[:, None]
        columns = {
            "tokens": [len(read.ids) for read in tokens],
            "completion_tokens": [read.targets for read in tokens],
            "prompt_cut": [read.prompt_cut for read in tokens],
            "completion_cut": [read.completion_cut for read in tokens],
            "no_gradient": ((norms == 0) & ~rejected).tolist(),
        }
        return cls(raw.numpy(), norms.numpy(), losses.numpy(), rejected.numpy(), columns, bf16)

    def refuse_rejected(self, examples: Sequence[Example]) -> "Features":
        """Itself, where every row has features.

        Raises:
            ModelError: some have not; the message names the first.
        """
        if self.rejected.any():
            first = examples[int(np.argmax(self.rejected))].id
            raise ModelError(f"the gradient of {first!r} is not finite. {remedy(self.bf16)}")
        return self


def remedy(bf16: bool) -> str:
    """What to do where gradients are not finite."""
    return (
        "Use --precision fp32, or leave such rows out." if bf16 else "Leave such rows out: float32 does not hold them."
    )


class Teacher(Protocol):
    """What computes influence: features of the query role and the pool role; influence is their inner product.

    Higher means that training on the pool example raises the likelihood of the query's completion; negative,
    lowers it.
    """

    settings: TeacherSettings
    decoder: Decoder
    checkpoints: Sequence[Checkpoint]
    bf16: bool

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        ...

    @property
    def code(self) -> VectorCode:
        """How pool features are stored."""
        ...

    @property
    def provenance(self) -> Provenance:
        """Everything that changes the features."""
        ...

    @property
    def needs_fitting(self) -> bool:
        """Whether `fit` must be called before `features`."""
        ...

    def fit(self, pool: Sequence[Example], queries: Sequence[Example]) -> None:
        """Learn from a sample of both sides what the features need: a curvature, a subspace."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What `fit` learnt."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `fit` learnt elsewhere."""
        ...

    def features(self, examples: Sequence[Example], role: Role, advance: Advance | None = None) -> Features:
        """Features of each example, in order."""
        ...

    def token_shares(
        self, examples: Sequence[Example], role: Role, others: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """The part of each completion token of an example in its influences, (m, completion tokens) each.

        Args:
            role: of the examples.
            others: for each of them, (m, dim) features of examples in the other role.

        Raises:
            ConfigError: the influence of this teacher is no sum over tokens.
        """
        ...
