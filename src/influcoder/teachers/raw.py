"""One model's raw features: views of gradients, as they are or as Adam's steps, sketched or side by side."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from influcoder.data.examples import Role
from influcoder.errors import ConfigError
from influcoder.maths.lowrank import factors
from influcoder.maths.sketch import CountSketch
from influcoder.model.batches import Batch, Tokens, in_batches, make_batches
from influcoder.model.decoder import Decoder
from influcoder.model.gradients import LayerGradients
from influcoder.model.layers import View, adapter, lora_b, two_sided, weights
from influcoder.model.loss import cross_entropy, margin
from influcoder.model.token_shares import TokenShares
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
    if settings.source in ("lora-b", "whitened"):
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
            batch_losses = self._gradients.run(batch, lambda view, part: self._add(block, whole, view, part, role))
            raw[batch.places] = block.cpu()
            losses[batch.places], squares[batch.places] = batch_losses.cpu(), whole.cpu()
            if advance:
                advance(len(batch.places))

        in_batches(tokens, self._gradients.budget(self.settings.token_budget), self.decoder.device, work)
        counts = torch.tensor([self.counted(read, role) for read in tokens])
        raw *= counts[:, None]
        return raw, losses, squares.sqrt() * counts if self.settings.normalise_modules else raw.norm(dim=1)

    def counted(self, tokens: Tokens, role: Role) -> float:
        """What the gradient of a text's mean loss is multiplied with: its tokens, where a row's loss is their sum."""
        return float(tokens.targets) if self.settings.reduction == "sum" and role == "pool" else 1.0

    def gradient(self, tokens: Tokens) -> list[Tensor]:
        """The gradient of one text that has a loss, (1, length) for each view."""
        parts = [torch.zeros(0)] * len(self.views)

        def receive(view: int, part: Tensor) -> None:
            parts[view] = part

        for batch in make_batches([tokens], len(tokens.ids), self.decoder.device):
            self._gradients.run(batch, receive)
        return parts

    def of_gradient(self, gradient: Sequence[Tensor], role: Role) -> Tensor:
        """(1, dim) the raw features of a text with this gradient."""
        block = torch.zeros(1, self.dim, device=self.decoder.device)
        for view, part in enumerate(gradient):
            self._add(block, torch.zeros(1, device=block.device), view, part, role)
        return block.cpu()

    def token_shares(self, tokens: Tokens, gradient: Sequence[Tensor], vectors: Tensor, role: Role) -> Tensor:
        """(m, targets) the parts of a text's tokens in the inner products of its raw features with (m, dim) vectors.

        Its features are linear in its gradient once the norms and singular vectors that they take from it are held, so
        a vector that they are multiplied with is, transposed, a direction that the gradient is multiplied with.

        Args:
            gradient: its own, as `gradient` gives it.
        """
        shares = [
            TokenShares(self.decoder, self.views, self._direction(vector[None], gradient, role))([tokens])[0]
            for vector in vectors.to(self.decoder.device)
        ]
        return torch.stack(shares) if shares else torch.zeros(0, tokens.targets)

    def _direction(self, vector: Tensor, gradient: Sequence[Tensor], role: Role) -> list[Tensor]:
        """The transpose of `_add`, view by view, for a text of this gradient."""
        directions = []
        for view, part in enumerate(gradient):
            back = vector[:, self.slices[view]] if self._sketch is None else self._sketch.back(vector, view)
            if self._factors is not None:
                part = part * self._factors[view]
            if self.settings.code_rank and role == "pool":
                left, _ = factors(part.view(1, *self.views[view].shape), self.settings.code_rank)
                left = left / left.norm(dim=1, keepdim=True).clamp_min(1e-30)
                back = (left @ (left.mT @ back.view(1, *self.views[view].shape))).flatten(1)
            if self.settings.normalise_modules:
                back = back / part.norm(dim=1, keepdim=True).clamp_min(1e-30)
            if self._factors is not None:
                back = back * self._factors[view]
            directions.append(back[0])
        return directions

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
