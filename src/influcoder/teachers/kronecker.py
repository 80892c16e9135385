"""Layers seen through their own second moments: EK-FAC, K-FAC, LoGra's principal directions, TrackStar's correction.

EK-FAC (George et al. 2018; for language models Grosse et al. 2023, arXiv 2308.03296) takes a layer's Fisher as
Q (Λ + λI) Qᵀ, where Q is the Kronecker product of the eigenvectors of A = E[x xᵀ] and S = E[δ δᵀ] over tokens,
and Λ the corrected eigenvalues E[(Q_Aᵀ Gᵀ Q_S)²] over examples. So with the eigenvectors as the two sides of a
view, the preconditioned gradient is the view divided by √(Λ + λ). δ is that of tokens drawn from the model's own
prediction. One pass: the first half of the sample gives A and S, the second half Λ.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.model.batches import Batch, in_batches
from influcoder.model.decoder import Decoder
from influcoder.model.gradients import Backward, LayerGradients
from influcoder.model.layers import View
from influcoder.model.linear import inputs, outputs
from influcoder.model.loss import LossGradient, Sampled, cross_entropy

Add = Callable[[Any, Tensor], None]


@dataclass(frozen=True, slots=True)
class FittedViews:
    """Views learnt from a sample, and what each number of them is multiplied by (ones when None)."""

    views: list[View]
    factors: list[Tensor] | None = None

    def state(self) -> dict[str, Tensor]:
        """Tensors that `of` makes it from, beside the plain views."""
        tensors: dict[str, Tensor] = {}
        for number, view in enumerate(self.views):
            sides = {"right": view.right, "left": view.left}
            tensors |= {f"view{number}.{side}": matrix.cpu() for side, matrix in sides.items() if matrix is not None}
            tensors[f"view{number}.scale"] = torch.tensor(view.scale, dtype=torch.float64)
            if self.factors is not None:
                tensors[f"view{number}.factors"] = self.factors[number].cpu()
        return tensors

    @classmethod
    def of(cls, plain: Sequence[View], state: Mapping[str, Tensor]) -> "FittedViews":
        """The fitted views of a state, on the layers of `plain`."""
        views = []
        for number, view in enumerate(plain):
            right, left = (state[f"view{number}.{side}"].to(view.device) for side in ("right", "left"))
            views.append(replace(view, right=right, left=left, scale=float(state[f"view{number}.scale"])))
        if "view0.factors" not in state:
            return cls(views)
        return cls(views, [state[f"view{n}.factors"].to(view.device) for n, view in enumerate(plain)])


def fit_principal(
    decoder: Decoder, plain: Sequence[View], examples: Sequence[Example], *, rank: int, bf16: bool, token_budget: int
) -> FittedViews:
    """Each layer's gradient between the leading eigenvectors of its inputs and of its output gradients.

    LoGra's PCA initialisation (Choe et al. 2024, arXiv 2405.13954): rank x rank numbers a layer that hold far more
    of the gradient than as many random ones.
    """
    moments = _moments(decoder, plain, examples, cross_entropy, bf16, token_budget)
    return FittedViews(_principal(plain, moments, rank))


def fit_kronecker(
    decoder: Decoder,
    plain: Sequence[View],
    examples: Sequence[Example],
    *,
    rank: int,
    damping: float,
    seed: int,
    bf16: bool,
    token_budget: int,
) -> FittedViews:
    """EK-FAC's views and factors of the layers of `plain`, whole weights, from some pool examples.

    Args:
        rank: eigenvectors kept of each factor, the leading ones. All of them is EK-FAC itself.
        damping: λ as a share of each layer's mean eigenvalue; 0.1 as in Grosse et al.

    Raises:
        ConfigError: fewer than four examples.
    """
    if len(examples) < 4:
        raise ConfigError(f"EK-FAC is fitted on pool examples, {len(examples)} given; expected at least 4.")
    half = len(examples) // 2
    loss = Sampled(seed, decoder.device)
    views = _principal(plain, _moments(decoder, plain, examples[:half], loss, bf16, token_budget), rank)
    gradients = LayerGradients(decoder, views, bf16=bf16, loss=loss)

    def run(batch: Batch, add: Add) -> None:
        gradients.run(batch, lambda number, part: add(number, part.square().sum(dim=0)))

    squares = _sums(decoder, examples[half:], gradients.budget(token_budget), run)
    means = [squares[number] / (len(examples) - half) for number in range(len(views))]
    return FittedViews(views, [_whitening(eigenvalues, damping) for eigenvalues in means])


def fit_whitened(
    decoder: Decoder,
    plain: Sequence[View],
    examples: Sequence[Example],
    *,
    damping: float,
    seed: int,
    bf16: bool,
    token_budget: int,
) -> FittedViews:
    """K-FAC of what the views of `plain` see of each layer: divided by √(α βᵀ + λ) in the eigenbases of both factors.

    α and β are the eigenvalues of A = E[x xᵀ], seen through a view's `right`, and of S = E[δ δᵀ] (Martens and Grosse
    2015, arXiv 1503.05671); λ is `damping` times the mean of their products. Nothing is cut before it is divided:
    a gradient that is projected first and whitened then has lost what whitening is for.
    """
    moments = _moments(decoder, plain, examples, Sampled(seed, decoder.device), bf16, token_budget)
    tokens = sum(len(read.ids) for read in decoder.tokenise(examples))
    views, factors = [], []
    for number, view in enumerate(plain):
        (alpha, right), (beta, left) = (_eigenbasis(*side) for side in _sides(number, view, moments))
        products = torch.outer(alpha.clamp_min(0), beta.clamp_min(0)) / tokens**2
        views.append(replace(view, right=right, left=left))
        factors.append(_whitening(products, damping).flatten())
    return FittedViews(views, factors)


def fit_normalised(
    decoder: Decoder, plain: Sequence[View], examples: Sequence[Example], *, rank: int, bf16: bool, token_budget: int
) -> FittedViews:
    """The leading directions of each layer's gradient after `normalise_views`: TrackStar's features before whitening.

    TrackStar projects at random onto 65,536 numbers; as many principal directions as fit far fewer keep more.
    """
    scaled = normalise_views(decoder, plain, plain, examples, bf16=bf16, token_budget=token_budget).views
    moments = _moments(decoder, plain, examples, cross_entropy, bf16, token_budget)
    return FittedViews(_principal(scaled, moments, rank))


def normalise_views(
    decoder: Decoder,
    views: Sequence[View],
    plain: Sequence[View],
    examples: Sequence[Example],
    *,
    bf16: bool,
    token_budget: int,
) -> FittedViews:
    """`views` of gradients divided by the root of their second moment, in Adafactor's factored form.

    The second moment V of a layer's gradient is taken as its row sums times its column sums (Shazeer and Stern
    2018); so dividing by √V scales what the two sides of a view read, and no gradient is ever formed to do it.
    TrackStar (Chang et al. 2025, arXiv 2410.17413) reads V from the optimizer; here it is measured on `examples`.
    """
    gradients = LayerGradients(decoder, plain, bf16=bf16)

    def run(batch: Batch, add: Add) -> None:
        def receive(number: int, part: Tensor) -> None:
            squares = part.view(-1, *plain[number].shape).square().sum(dim=0)
            for side in (0, 1):
                add((number, side), squares.sum(dim=1 - side) / len(examples))

        gradients.run(batch, receive)

    sums = _sums(decoder, examples, gradients.budget(token_budget), run)
    scaled = []
    for number, view in enumerate(views):
        sides = []
        for side, projection in enumerate((view.right, view.left)):
            mean = sums[number, side].mean().clamp_min(1e-30)
            root = (sums[number, side] / mean + 1e-6).rsqrt()
            sides.append(torch.diag(root) if projection is None else projection * root)
        rows, columns = plain[number].shape
        overall = float(sums[number, 0].sum().clamp_min(1e-30)) / (rows * columns)
        scaled.append(replace(view, right=sides[0], left=sides[1], scale=view.scale * overall**-0.5))
    return FittedViews(scaled)


def _whitening(eigenvalues: Tensor, damping: float) -> Tensor:
    """1/√(Λ + λ), λ being `damping` times the mean; zeros, which leave a layer out, where no token reached it."""
    mean = eigenvalues.mean()
    if mean == 0:
        return torch.zeros_like(eigenvalues)
    return (eigenvalues + damping * mean).clamp_min(torch.finfo(eigenvalues.dtype).tiny).rsqrt()


def _sums(
    decoder: Decoder, examples: Sequence[Example], token_budget: int, run: Callable[[Batch, Add], None]
) -> dict[Any, Tensor]:
    """What `run` adds up under each key over the batches of some examples."""
    totals: dict[Any, Tensor] = {}

    def work(batch: Batch) -> None:
        parts: dict[Any, Tensor] = {}

        def add(key: Any, value: Tensor) -> None:
            parts[key] = parts[key] + value if key in parts else value

        run(batch, add)
        for key, value in parts.items():  # only now: a batch that ran out of memory is run again
            totals[key] = totals[key] + value if key in totals else value

    in_batches(decoder.tokenise(examples), token_budget, decoder.device, work)
    return totals


def _moments(
    decoder: Decoder,
    plain: Sequence[View],
    examples: Sequence[Example],
    loss: LossGradient,
    bf16: bool,
    token_budget: int,
) -> dict[Any, Tensor]:
    """Σ x xᵀ and Σ δ δᵀ over the tokens of some examples, by (view, side)."""
    backward = Backward(decoder, [view.module for view in plain], bf16=bf16, loss=loss)

    def run(batch: Batch, add: Add) -> None:
        real = torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None]

        def see(number: int, x: Tensor, delta: Tensor) -> None:
            # Padding has inputs too. Where rows are no tokens, as of experts, those that count have a gradient.
            rows_in_use = real if x.shape[:2] == real.shape else delta.any(dim=-1)
            for side, rows in enumerate((x, delta)):
                tokens = rows[rows_in_use].float()
                add((number, side), tokens.T @ tokens)

        backward.run(batch, lambda _, x: x, see)

    return _sums(decoder, examples, backward.budget(token_budget), run)


def _principal(views: Sequence[View], moments: dict[Any, Tensor], rank: int) -> list[View]:
    """Views onto the leading eigenvectors of what the sides of `views` read."""
    projected = []
    for number, view in enumerate(views):
        right, left = (_eigenbasis(*side, rank)[1] for side in _sides(number, view, moments))
        projected.append(replace(view, right=right, left=left))
    return projected


def _sides(number: int, view: View, moments: dict[Any, Tensor]) -> list[tuple[Tensor, Tensor | None]]:
    """(second moment, first projection) of both sides of a view; nothing is known of a layer that no token reached."""
    sizes = inputs(view.module), outputs(view.module)
    return [
        (moments.get((number, side), torch.zeros(size, size, device=view.device)), before)
        for side, (size, before) in enumerate(zip(sizes, (view.right, view.left), strict=True))
    ]


def _eigenbasis(moment: Tensor, before: Tensor | None, rank: int | None = None) -> tuple[Tensor, Tensor]:
    """(eigenvalues, (rank, size) eigenvectors) of a second moment, after a first projection if there is one.

    Args:
        rank: how many, the leading ones; all when omitted.
    """
    if before is None:
        before = torch.eye(len(moment), device=moment.device)
    values, vectors = torch.linalg.eigh(before @ moment @ before.T)
    first = max(0, len(values) - (len(values) if rank is None else rank))
    return values[first:], vectors.T[first:] @ before
