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


AT_ONCE = 2**26
"""numbers of gradients that are held together for the shares of tokens"""


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

    def token_shares(
        self, tokens: Sequence[Tokens], vectors: Sequence[Tensor], role: Role
    ) -> tuple[Tensor, list[Tensor]]:
        """The (n, dim) raw features of texts, and the parts of their tokens in inner products with other features.

        Features are linear in a text's gradient once the norms and singular vectors that they take from it are held, so
        a vector that they are multiplied with is, transposed, a direction that the gradient is multiplied with.

        Args:
            tokens: at most `at_once` texts: their gradients are held.
            vectors: for each text, (m, dim).

        Returns:
            The features, and for each text (m, targets) parts.
        """
        raw = torch.zeros(len(tokens), self.dim)
        shares = [torch.zeros(len(of_text), text.targets) for of_text, text in zip(vectors, tokens, strict=True)]
        budget, device = self._gradients.budget(self.settings.token_budget), self.decoder.device

        def work(batch: Batch) -> None:
            gradients = [torch.zeros(0)] * len(self.views)
            self._gradients.run(batch, gradients.__setitem__)
            block = torch.zeros(len(batch.places), self.dim, device=device)
            for view, part in enumerate(gradients):
                self._add(block, torch.zeros(len(block), device=device), view, part, role)
            raw[batch.places] = block.cpu()
            pairs = [(row, number) for row, place in enumerate(batch.places) for number in range(len(vectors[place]))]
            for start in range(0, len(pairs), self.at_once):
                some = pairs[start : start + self.at_once]
                rows, places = [row for row, _ in some], [batch.places[row] for row, _ in some]
                others = torch.stack([vectors[batch.places[row]][number] for row, number in some]).to(device)
                direction = self._direction(others, [part[rows] for part in gradients], role)
                parts = TokenShares(self.decoder, self.views, direction)([tokens[place] for place in places], budget)
                for (_, number), place, part in zip(some, places, parts, strict=True):
                    shares[place][number] = part

        in_batches(tokens, budget, device, work)
        return raw, shares

    @property
    def at_once(self) -> int:
        """How many texts' gradients may be held together."""
        return max(1, AT_ONCE // sum(self._gradients.lengths))

    def _direction(self, vectors: Tensor, gradients: Sequence[Tensor], role: Role) -> list[Tensor]:
        """The transpose of `_add`, view by view, for texts of these gradients."""
        directions = []
        for view, part in enumerate(gradients):
            back = vectors[:, self.slices[view]] if self._sketch is None else self._sketch.back(vectors, view)
            if self._factors is not None:
                part = part * self._factors[view]
            if self.settings.code_rank and role == "pool":
                left, _ = factors(part.view(len(part), *self.views[view].shape), self.settings.code_rank)
                left = left / left.norm(dim=1, keepdim=True).clamp_min(1e-30)
                back = (left @ (left.mT @ back.view(len(part), *self.views[view].shape))).flatten(1)
            if self.settings.normalise_modules:
                back = back / part.norm(dim=1, keepdim=True).clamp_min(1e-30)
            if self._factors is not None:
                back = back * self._factors[view]
            directions.append(back)
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
