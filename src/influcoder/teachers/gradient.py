"""Teachers that take gradients: views of them, preconditioned, sketched, compared."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from influcoder.data.examples import Example, Role
from influcoder.errors import ConfigError, ModelError
from influcoder.maths.centring import centred, mean_of
from influcoder.maths.lowrank import LowRankCode
from influcoder.maths.precondition import Preconditioner
from influcoder.model.batches import Tokens
from influcoder.model.decoder import Decoder
from influcoder.model.precision import use_bf16
from influcoder.model.tokenizer_loading import differences, tokenizer_hash
from influcoder.provenance import Provenance
from influcoder.store.codes import Plain, VectorCode
from influcoder.teachers.checkpoints import AdamMoments, Checkpoint, refuse_other_shapes
from influcoder.teachers.kronecker import FittedViews, fit_kronecker, fit_normalised, fit_principal, fit_whitened
from influcoder.teachers.raw import RawFeatures, plain_views
from influcoder.teachers.settings import FITTED, TeacherSettings, refuse_no_token_shares
from influcoder.teachers.teacher import Advance, Features

SKETCH_STRIDE = 7919
"""between the sketch seeds of two checkpoints"""


class GradientTeacher:
    """Influence by gradients: by default the cosine of two examples' LoRA-B gradients, as in the paper.

    Args:
        decoder: the model whose training is attributed.
        settings: which gradient, how compressed, under which curvature, how compared.
        checkpoints: of its training: their features are added up, weighted by learning rate (TracIn, Pruthi et
            al. 2020, arXiv 2002.08484). One is in memory at a time. The decoder alone when empty.

    Raises:
        ModelError, ConfigError: the settings ask for what the decoder or a checkpoint has not got.

    >>> from influcoder.demo.world import assets
    >>> teacher = GradientTeacher(Decoder.load(assets() / "decoder"), TeacherSettings(rank=4, width=512))
    >>> teacher.features([Example("a", "2 + 2 = ", "4")], "query").vectors.shape
    (1, 512)
    """

    def __init__(
        self, decoder: Decoder, settings: TeacherSettings | None = None, *, checkpoints: Sequence[Checkpoint] = ()
    ) -> None:
        self.decoder = decoder
        self.settings = settings or TeacherSettings()
        self.checkpoints: Sequence[Checkpoint] = list(checkpoints)
        self.bf16 = use_bf16(self.settings.precision, decoder.device)
        if self.checkpoints and (not self.settings.width or self.needs_fitting):
            raise ConfigError(f"{self.settings.name} takes one model, {len(self.checkpoints)} checkpoints were given.")
        if self.settings.adam and not self.checkpoints:
            raise ConfigError(f"{self.settings.name} divides by Adam's moments: name checkpoints with --checkpoints.")
        if self.checkpoints and not sum(checkpoint.weight for checkpoint in self.checkpoints) > 0:
            raise ConfigError("the weights of the checkpoints, their learning rates, add up to 0.")
        self._plain = FittedViews(plain_views(decoder, self.settings))
        self._fitted: FittedViews | None = None
        self._preconditioner: Preconditioner | None = None
        self._mean: Tensor | None = None
        self._held: tuple[int, RawFeatures] | None = None
        self._other_tokenizers: dict[int, Any] = {}
        self._models = [self._raw(number).record for number in range(len(self.checkpoints))]

    @property
    def needs_fitting(self) -> bool:
        """Whether `fit` must be called before `features`."""
        return self.settings.learns

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return self._preconditioner.dim if self._preconditioner and self._halved else self._raw(0).dim

    @property
    def code(self) -> VectorCode:
        """How pool features are stored."""
        if not self.settings.code_rank:
            return Plain(self.dim)
        return LowRankCode([view.shape for view in self._raw(0).views], self.settings.code_rank)

    @property
    def provenance(self) -> Provenance:
        """Everything that changes the features."""
        teacher = replace(
            self.settings.record(bf16=self.bf16),
            checkpoints=[replace(model, share=share) for model, share in zip(self._models, self._shares, strict=False)],
            fitted=hashlib.sha256(safetensors.torch.save(self.state())).hexdigest() if self.needs_fitting else None,
        )
        return Provenance(teacher=teacher, decoder=self.decoder.fingerprint)

    def fit(self, pool: Sequence[Example], queries: Sequence[Example]) -> None:
        """Learn a curvature, directions or a mean from at most `fit_examples` examples of each side, by the seed."""
        pool, queries = (_drawn(side, self.settings) for side in (pool, queries))
        plain = self._plain.views
        how: Any = {"bf16": self.bf16, "token_budget": self.settings.token_budget}
        factored: Any = {"damping": self.settings.damping, "seed": self.settings.seed, **how}
        match self.settings.source:
            case "kronecker":
                self._fitted = fit_kronecker(self.decoder, plain, pool, rank=self.settings.rank, **factored)
            case "whitened":
                self._fitted = fit_whitened(self.decoder, plain, pool, **factored)
            case "principal":
                self._fitted = fit_principal(self.decoder, plain, pool, rank=self.settings.rank, **how)
            case "normalised":
                self._fitted = fit_normalised(self.decoder, plain, pool, rank=self.settings.rank, **how)
        self._held, self._mean = None, None
        if self.settings.curvature != "none":
            sides = [self._finite(side, role) for side, role in ((pool, "pool"), (queries, "query"))]  # type: ignore[arg-type]
            self._preconditioner = Preconditioner.fit(
                self.settings.curvature,
                self._raw(0).blocks,
                *sides,
                damping=self.settings.damping,
                dim=self.settings.kept,
            )
        if self.settings.centred:
            self._mean = mean_of(self._uncentred(self.decoder.tokenise(pool), "pool")[0])
        self.load(self.state())  # what is kept is rounded: use no more than what a later run will read

    def state(self) -> dict[str, Tensor]:
        """What `fit` learnt, as tensors."""
        learnt = self._preconditioner.state() if self._preconditioner else {}
        learnt |= self._fitted.state() if self._fitted else {}
        return learnt if self._mean is None else learnt | {"mean": self._mean}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `fit` learnt elsewhere."""
        self._held = None
        if self.settings.source in FITTED:
            self._fitted = FittedViews.of(self._plain.views, state)
        if self.settings.curvature != "none":
            preconditioner = Preconditioner.from_state(state)
            stops = [block.stop for block in preconditioner.blocks]
            if stops[-1:] != [self._raw(0).dim]:
                raise ModelError(
                    f"the curvature is one of {stops[-1] if stops else 0} numbers, {self.settings.name} has "
                    f"{self._raw(0).dim} on {self.decoder.name}. Make the features again."
                )
            self._preconditioner = preconditioner
        if self.settings.centred:
            self._mean = state["mean"]

    def features(self, examples: Sequence[Example], role: Role, advance: Advance | None = None) -> Features:
        """Features of each example, in order.

        Raises:
            ModelError: `fit` was not called, and this teacher needs it.
        """
        if self.needs_fitting and not self.state():
            raise ModelError(f"{self.settings.name} learns from a sample first: call fit(pool, queries).")
        tokens = self.decoder.tokenise(examples)
        total, losses, norms = self._uncentred(tokens, role, examples, advance)
        if self._mean is not None:
            total = centred(total, self._mean)
        return Features.of(total, losses, tokens, self.settings, norms=norms, bf16=self.bf16)

    def _uncentred(
        self,
        tokens: Sequence[Tokens],
        role: Role,
        examples: Sequence[Example] = (),
        advance: Advance | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """(features before their mean is taken off, losses, lengths of gradients where features are without theirs)."""
        total, losses = torch.zeros(len(tokens), self.dim), torch.zeros(len(tokens))
        squares = torch.zeros(len(tokens))
        for number, share in enumerate(self._shares):
            model = self._raw(number)
            if number in self._other_tokenizers:
                self._refuse_other_reading(number, examples, tokens)
            raw, losses, lengths = model(tokens, role, advance if number == len(self._shares) - 1 else None)
            if self._preconditioner is not None and (power := self._power(role)):
                raw = self._preconditioner(raw, power)
            norms = raw.norm(dim=1)
            squares += share * (lengths if self.settings.normalise_modules else norms).square()
            if self.settings.similarity == "cosine":
                raw = raw / norms.clamp_min(1e-30)[:, None]
            total += raw * share**0.5
        if self.settings.margin and role == "pool":
            total *= 1 - (-losses).exp()[:, None]  # TRAK's Q, how far each row is from being known
        scaled = self.settings.similarity == "cosine" or self.settings.normalise_modules
        return total, losses, squares.sqrt() if scaled else None

    def token_shares(
        self, examples: Sequence[Example], role: Role, others: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """The part of each completion token of an example in its influences; they add up to these.

        Each token bears its share of the mean that is taken off, if one is. The lengths by which gradients are divided
        for a cosine, whole or layer by layer, are those of the example, not of its tokens. Gradients of tokens are
        taken in float32: sums differ from scores of `features` by the rounding of bfloat16, where products run in it.

        Args:
            role: of the examples.
            others: for each of them, (m, dim) features of examples in the other role.

        Returns:
            For each example (m, completion tokens) shares, sign as of influence.

        Raises:
            ConfigError: the influence of this teacher is no sum over tokens.
        """
        refuse_no_token_shares(self.settings)
        tokens = self.decoder.tokenise(examples)
        total = [torch.zeros(len(other), read.targets) for read, other in zip(tokens, others, strict=True)]
        features = torch.zeros(len(examples), self.dim)
        cosine, power = self.settings.similarity == "cosine", self._power(role)
        for number, share in enumerate(self._shares):
            model = self._raw(number)
            for start in range(0, len(examples), model.at_once):
                some = slice(start, start + model.at_once)
                vectors = [torch.from_numpy(other) for other in others[some]]
                if self._preconditioner is not None and power:
                    vectors = [self._preconditioner.back(vector, power) for vector in vectors]
                raw, parts = model.token_shares(tokens[some], vectors, role)
                if self._preconditioner is not None and power:
                    raw = self._preconditioner(raw, power)
                counts = torch.tensor([model.counted(read, role) for read in tokens[some]])
                weights = share**0.5 * (1 / raw.norm(dim=1).clamp_min(1e-30) if cosine else counts)
                features[some] += weights[:, None] * raw
                for place, (weight, part) in enumerate(zip(weights, parts, strict=True), start):
                    total[place] += weight * part
        if self._mean is not None:
            features = centred(features, self._mean)
            for part, read, other in zip(total, tokens, others, strict=True):
                part -= torch.outer(torch.from_numpy(other) @ self._mean, torch.from_numpy(read.shares))
        lengths = features.norm(dim=1).clamp_min(1e-30) if cosine else torch.ones(len(examples))
        return [(shares / length).numpy() for shares, length in zip(total, lengths, strict=True)]

    def _power(self, role: Role) -> float:
        """Of the curvature, that features of a role are multiplied with."""
        return 0.5 if self._halved else float(role == "query")

    @property
    def _halved(self) -> bool:
        """Whether both sides are preconditioned by half; low-rank pool features must stay as they are."""
        return not self.settings.code_rank

    @property
    def _shares(self) -> list[float]:
        weights = [checkpoint.weight for checkpoint in self.checkpoints]
        return [weight / sum(weights) for weight in weights] or [1.0]

    def _raw(self, number: int) -> RawFeatures:
        if self._held is None or self._held[0] != number:
            self._held = None  # before the next one is loaded
            self._held = number, self._load(number)
        return self._held[1]

    def _load(self, number: int) -> RawFeatures:
        seed = self.settings.seed + SKETCH_STRIDE * number
        if not self.checkpoints:
            return RawFeatures(
                self.decoder, self.settings, self._fitted or self._plain, sketch_seed=seed, bf16=self.bf16
            )
        checkpoint = self.checkpoints[number]
        decoder = checkpoint.load()
        if tokenizer_hash(decoder.tokenizer) != tokenizer_hash(self.decoder.tokenizer):
            self._other_tokenizers[number] = decoder.tokenizer
        views = plain_views(decoder, self.settings)
        refuse_other_shapes(checkpoint, views, self.decoder, self._plain.views)
        moments = AdamMoments.of(checkpoint, decoder, views) if self.settings.adam else None
        return RawFeatures(
            decoder, self.settings, FittedViews(views), moments=moments, sketch_seed=seed, bf16=self.bf16
        )

    def _refuse_other_reading(self, number: int, examples: Sequence[Example], tokens: Sequence[Tokens]) -> None:
        """Texts must be read as the checkpoint was trained to."""
        own = self._other_tokenizers[number]
        for example, here, there in zip(
            examples, tokens, self.decoder.reading_with(own).tokenise(examples), strict=True
        ):
            if here.start != there.start or not np.array_equal(here.ids, there.ids):
                differ = "; ".join(differences(own, self.decoder.tokenizer))
                raise ModelError(
                    f"{self.checkpoints[number].path}: was trained with another tokenizer or chat template than "
                    f"{self.decoder.name} has ({differ}), and reads {example.id!r} otherwise. Give a checkpoint as "
                    "--decoder: texts are then read as in training."
                )

    def _finite(self, examples: Sequence[Example], role: Role) -> Tensor:
        raw, *_ = self._raw(0)(self.decoder.tokenise(examples), role)
        return raw[raw.isfinite().all(dim=1)]


def _drawn(examples: Sequence[Example], settings: TeacherSettings) -> list[Example]:
    order = np.random.default_rng(settings.seed).permutation(len(examples))[: settings.fit_examples]
    return [examples[row] for row in np.sort(order)]
