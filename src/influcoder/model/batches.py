"""Batches of tokenised examples that go through a model together."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from influcoder.errors import ModelError

logger = logging.getLogger("influcoder")


@dataclass(frozen=True, slots=True)
class Tokens:
    """One example's token ids (int64, prompt then completion) and where its completion starts.

    Attributes:
        weights: (len(ids),) how much each token counts in the loss; if None, all from `start` on count alike.
        lost: fields of the row that its chat template left out.
    """

    ids: NDArray[np.int64]
    start: int
    prompt_cut: bool = False
    completion_cut: bool = False
    boundary_moved: bool = False
    weights: NDArray[np.float32] | None = None
    lost: tuple[str, ...] = ()

    @property
    def places(self) -> NDArray[np.int64]:
        """The places of the tokens that carry loss: the first token of a text is not predicted, so has none."""
        if self.weights is None:
            return np.arange(max(self.start, 1), len(self.ids))
        return 1 + np.flatnonzero(self.weights[1:])

    @property
    def shares(self) -> NDArray[np.float32]:
        """The share of each of those tokens in the example's loss; they add up to 1."""
        if self.weights is None:
            return np.full(self.targets, 1 / max(self.targets, 1), np.float32)
        weights = self.weights[self.places]
        shares: NDArray[np.float32] = weights / weights.sum()
        return shares

    @property
    def targets(self) -> int:
        """How many tokens carry loss."""
        return len(self.ids) - max(self.start, 1) if self.weights is None else len(self.places)

    def shortened(self, most: int) -> "Tokens":
        """At most so many tokens: the prompt's last and the completion's first, half each where both are long.

        >>> short = Tokens(np.arange(100), start=40).shortened(10)
        >>> short.ids.tolist(), short.start
        ([35, 36, 37, 38, 39, 40, 41, 42, 43, 44], 5)
        """
        if len(self.ids) <= most:
            return self
        first = max(self.start, 1)
        rest = len(self.ids) - first
        completion = min(rest, max(most // 2, most - first))
        begin = max(0, first - (most - completion))
        return replace(
            self,
            ids=self.ids[begin : first + completion],
            start=self.start - begin,
            prompt_cut=self.prompt_cut or begin > 0,
            completion_cut=self.completion_cut or completion < rest,
            weights=None if self.weights is None else self.weights[begin : first + completion],
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples that go through the model together: their places, padded ids and loss positions."""

    places: list[int]
    ids: Tensor  # (n, T)
    lengths: Tensor  # (n,)
    rows: Tensor  # (K,) the example of each completion token
    columns: Tensor  # (K,) the position that predicts it
    targets: Tensor  # (K,)
    weights: Tensor  # (K,) its share of its example's loss: 1 / number of completion tokens, or as the row weighs them


def make_batches(tokens: Sequence[Tokens], token_budget: int, device: torch.device) -> Iterator[Batch]:
    """Batches of similar lengths, longest first, of at most `token_budget` padded tokens each.

    Examples without a completion token, which have no loss, are left out.
    """
    order = _by_length(tokens)
    while order:
        batch = _first_batch(tokens, order, token_budget, device)
        yield batch
        order = order[len(batch.places) :]


def in_batches(
    tokens: Sequence[Tokens], token_budget: int, device: torch.device, work: Callable[[Batch], object]
) -> None:
    """Call `work` for every batch; when memory runs out, again with half as many tokens.

    Raises:
        ModelError: a single example does not fit.
    """
    order = _by_length(tokens)
    while order:
        batch = _first_batch(tokens, order, token_budget, device)
        try:
            work(batch)
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            token_budget = batch.ids.numel() // 2
            if len(batch.places) == 1:
                raise ModelError(
                    f"out of memory with a single example of {batch.ids.shape[1]} tokens. "
                    "Give a smaller --max-length, or a machine with more memory."
                ) from error
            logger.warning("out of memory: going on with batches of %d tokens", token_budget)
            if device.type == "cuda":
                torch.cuda.empty_cache()
        else:
            order = order[len(batch.places) :]


def _by_length(tokens: Sequence[Tokens]) -> list[int]:
    return sorted((i for i, text in enumerate(tokens) if text.targets > 0), key=lambda i: -len(tokens[i].ids))


def _first_batch(tokens: Sequence[Tokens], order: list[int], token_budget: int, device: torch.device) -> Batch:
    places = order[: max(1, token_budget // len(tokens[order[0]].ids))]
    texts = [tokens[i] for i in places]
    ids = torch.zeros(len(texts), len(texts[0].ids), dtype=torch.long)
    rows, columns, targets, weights = [], [], [], []
    for row, text in enumerate(texts):
        values, with_loss = torch.from_numpy(text.ids), torch.from_numpy(text.places)
        ids[row, : len(values)] = values
        rows.append(torch.full((text.targets,), row))
        columns.append(with_loss - 1)
        targets.append(values[with_loss])
        weights.append(torch.from_numpy(text.shares))
    lengths = torch.tensor([len(text.ids) for text in texts])
    parts = (torch.cat(each).to(device) for each in (rows, columns, targets, weights))
    return Batch(places, ids.to(device), lengths.to(device), *parts)


def _out_of_memory(error: Exception) -> bool:
    # CPU allocators raise a plain RuntimeError, so only its message tells.
    phrases = ("not enough memory", "out of memory", "can't allocate", "bad_alloc")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        phrase in str(error).lower() for phrase in phrases
    )
