"""One model's raw features: views of gradients, as they are or as Adam's steps, sketched or side by side."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from influcoder.data.examples import Role
from influcoder.errors import ConfigError
from influcoder.maths.lowrank import factors
from influcoder.maths.sketch import CountSketch
from influcoder.model.batches import Batch, Tokens, in_batches
from influcoder.model.decoder import Decoder
from influcoder.model.gradients import LayerGradients
from influcoder.model.layers import View, adapter, lora_b, two_sided, weights
from influcoder.model.loss import cross_entropy, margin
from influcoder.provenance import DecoderRecord
from influcoder.teachers.checkpoints import AdamMoments
from influcoder.teachers.kronecker import FittedViews
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.teacher import Advance


def plain_views(decoder: Decoder, settings: TeacherSettings) -> list[View]:
    """The views that `settings` name, before anything is learnt from a sample.

    Raises:
        ConfigError: an adapter's own gradients are asked for, and it is not plain LoRA.
    """
    if decoder.merged is not None and not decoder.adapter and (settings.adam or settings.source == "adapter"):
        raise ConfigError(
            f"{settings.name} takes the gradients of a LoRA adapter's A and B, and {decoder.name} has a "
            f"{decoder.merged.kind} adapter, whose parameters are others. Use another teacher: gradient-cosine takes "
            "any adapter that is merged."
        )
    if settings.source == "lora-b":
        return lora_b(decoder, rank=settings.rank, seed=settings.seed, modules=settings.modules)
    if settings.source == "two-sided":
        return two_sided(decoder, rank=settings.rank, seed=settings.seed, modules=settings.modules)
    if settings.source == "adapter" or (settings.adam and decoder.adapter):
        return adapter(decoder, modules=settings.modules)
    return weights(decoder, modules=settings.modules)


class RawFeatures:
    """Raw features of one model.

    Args:
        decoder, settings: as of `GradientTeacher`.
        fitted: views learnt from a sample, in place of the plain ones.
        moments: of Adam; applied to pool gradients.
        sketch_seed: two models' features are added up, so their sketches must differ.
        bf16: run the products in bfloat16.
    """

    def __init__(
        self,
        decoder: Decoder,
        settings: TeacherSettings,
        fitted: FittedViews,
        *,
        moments: AdamMoments | None = None,
        sketch_seed: int = 0,
        bf16: bool = False,
    ) -> None:
        self.decoder = decoder
        self.settings = settings
        self.moments = moments
        self.views, self._factors = fitted.views, fitted.factors
        self._gradients = LayerGradients(
            decoder, self.views, bf16=bf16, loss=margin if settings.margin else cross_entropy
        )
        lengths = self._gradients.lengths
        self._sketch = CountSketch(lengths, settings.width, sketch_seed) if settings.width else None
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        self.slices = [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]
        self.dim = settings.width or sum(lengths)

    def __call__(
        self, tokens: Sequence[Tokens], role: Role, advance: Advance | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """((n, dim) raw features, (n,) losses, (n,) lengths), float32, zero where there is no loss.

        A length is the gradient's before its layers are scaled (`normalise_modules`), otherwise the raw features'.
        """
        raw, losses, squares = torch.zeros(len(tokens), self.dim), torch.zeros(len(tokens)), torch.zeros(len(tokens))

        def work(batch: Batch) -> None:
            block = torch.zeros(len(batch.places), self.dim, device=self.decoder.device)
            whole = torch.zeros(len(batch.places), device=self.decoder.device)
            found = self._gradients.run(batch, lambda view, part: self._add(block, whole, view, part, role))
            raw[batch.places] = block.cpu()
            losses[batch.places], squares[batch.places] = found.cpu(), whole.cpu()
            if advance:
                advance(len(batch.places))

        in_batches(tokens, self._gradients.budget(self.settings.token_budget), self.decoder.device, work)
        return raw, losses, squares.sqrt() if self.settings.normalise_modules else raw.norm(dim=1)

    def _add(self, block: Tensor, squares: Tensor, view: int, part: Tensor, role: Role) -> None:
        if self._factors is not None:
            part = part * self._factors[view]
        if self.moments is not None and role == "pool":
            part = self.moments.step(self.views[view], part)
        if self.settings.normalise_modules:
            squares += part.square().sum(dim=1)
            part = part / part.norm(dim=1, keepdim=True).clamp_min(1e-30)
        if self.settings.code_rank and role == "pool":
            left, right = factors(part.view(len(part), *self.views[view].shape), self.settings.code_rank)
            part = (left @ right).flatten(1)
        if self._sketch is not None:
            self._sketch.add(block, view, part)
        else:
            block[:, self.slices[view]] = part

    @property
    def blocks(self) -> list[slice]:
        """Which features belong together: those of a layer, or all that are sketched together."""
        return [slice(0, self.dim)] if self._sketch is not None else self.slices

    @property
    def record(self) -> DecoderRecord:
        """Everything about the model that changes the features."""
        return replace(self.decoder.fingerprint, optimizer=self.moments.file_sha256 if self.moments else None)
