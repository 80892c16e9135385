"""Answers: a question as it was attributed, and what every row of the pool scores for it; the last few are kept."""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.null_band import null_band
from influcoder.attribution.search import expected_agreement, query_vectors
from influcoder.data.examples import Example
from influcoder.errors import DataError
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats
from influcoder.serve.explorer import Explorer
from influcoder.serve.view.address import Address
from influcoder.serve.view.pool import PoolPicture
from influcoder.serve.wire import Question
from influcoder.verbs.show import show

KEPT = 16
"""answers, each 8 bytes a row"""


@dataclass
class Answer:
    """A question, its vector, and what follows from it.

    Attributes:
        example: as it was attributed.
        own: whether the completion is the decoder's own answer.
        vector: (dim,) what the index was asked with.
        features: (width,) the teacher's, with a decoder.
        trust: the expected agreement of its ranking with the teacher's, and the band of it.
        parts: what the decoder reads, and of each part whether it is attributed.
        exact: what real gradients say of some rows, by row number.
    """

    index: Any
    example: Example
    own: bool
    vector: Floats
    features: Floats | None
    trust: tuple[float, float, float] | None
    parts: list[tuple[str, bool]]
    exact: dict[int, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Prompt and completion."""
        return f"{self.example.prompt} {self.example.completion}"

    @cached_property
    def scores(self) -> Floats:
        """(n,) of every row."""
        scores: Floats = self.index.scores(self.vector[None])[0]
        return scores

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(n,) row numbers, highest score first; ties by row number."""
        return np.argsort(-self.scores, kind="stable")

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """(n,) 1 for the highest score."""
        ranks = np.empty(len(self.order), np.int64)
        ranks[self.order] = np.arange(1, len(self.order) + 1)
        return ranks

    def band(self, pool: PoolPicture) -> tuple[float, float] | None:
        """The band of unrelated questions; None until the pool's picture is there."""
        if pool.sample is None or pool.references is None:
            return None
        return null_band(pool.sample, self.vector, pool.references)


class Answers:
    """The last questions that were asked; made and kept by the worker."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self._kept: OrderedDict[tuple[str, str, str], Answer] = OrderedDict()

    def of(self, address: Address) -> Answer:
        """The answer to what a URL asks, worked out if it is not kept. In the worker.

        Raises:
            Problem: there is no such saved question, or no completion and no decoder that could give one.
            DataError: the decoder cannot read it.
        """
        key = (address.query, address.prompt, address.completion)
        if key not in self._kept:
            self._kept[key] = self._made(address)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _made(self, address: Address) -> Answer:
        explorer, index = self.explorer, self.explorer.index
        if address.query:
            asked = Question(query=address.query)
        else:
            asked = Question(
                prompt=address.prompt, completion=(address.completion.strip() and address.completion) or None
            )
        found = explorer.question(asked)
        example = explorer.questions.get(address.query) if address.query else None
        example = example or Example.question(found.prompt, found.completion, id=found.id)
        if not example.completion.strip():
            raise DataError("the completion is empty, so there is nothing whose likelihood a row could raise.")
        teacher, features = explorer.teacher, None
        if teacher is not None:
            features = teacher.features([example], "query").refuse_rejected([example]).vectors
        vectors = query_vectors(index, [example], features)
        trust = expected_agreement(index.encoder, vectors, features)[0]
        own_features = None if features is None else features[0]
        return Answer(index, example, found.own_answer, vectors[0], own_features, trust, self._parts(example))

    def _parts(self, example: Example) -> list[tuple[str, bool]]:
        """What the decoder reads; without one, the texts as they are."""
        if self.explorer.decoder is None:
            return [(f"{example.prompt}\n" if example.prompt else "", False), (example.completion, True)]
        (found,) = show(self.explorer.decoder, [example])
        return [(part["text"], part["loss"] > 0) for part in found["parts"]]


def whole(index: Any) -> bool:
    """Whether all rows of an index are at hand, so that every one can be scored."""
    return isinstance(index, Index)
