"""Answers: a question as it was attributed, with the scores of every row; the last few are kept."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.null_band import null_band
from influcoder.attribution.search import Trust
from influcoder.maths.arrays import Floats
from influcoder.recent import Recent
from influcoder.serve.explorer import Explorer
from influcoder.serve.prepared import Prepared
from influcoder.serve.ranking import KEPT_RANKINGS, Ranking
from influcoder.serve.view.pool import PoolPicture
from influcoder.serve.wire import Read, RowTokens


@dataclass
class Answer:
    """A question, its vector, and what follows from it.

    Attributes:
        prompt, completion: as they were attributed.
        own: whether the completion is the decoder's own answer.
        read: what the decoder reads, if there is one.
        vector: (dim,) that was searched with.
        trust: the expected agreement of its ranking with the teacher's, and the band of it.
        ranking: of all rows; they are scored at its first use.
        tokens: of rows whose tokens were asked for, by row number.
    """

    prompt: str
    completion: str
    own: bool
    read: Read | None
    vector: Floats
    trust: Trust | None
    ranking: Ranking
    tokens: dict[int, RowTokens] = field(default_factory=dict)
    _band: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """Prompt and completion."""
        return f"{self.prompt} {self.completion}"

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """The parts of the text that is read, each with whether it is attributed; without a decoder the plain texts."""
        if self.read is None:
            return [(f"{self.prompt}\n" if self.prompt else "", False), (self.completion, True)]
        return [(part.text, part.loss > 0) for part in self.read.parts]

    @property
    def scores(self) -> Floats:
        """(n,) of every row."""
        return self.ranking.scores

    @property
    def order(self) -> NDArray[np.int64]:
        """(n,) row numbers, highest score first; ties by row number."""
        return self.ranking.order

    @property
    def ranks(self) -> NDArray[np.int64]:
        """(n,) 1 for the highest score."""
        return self.ranking.ranks

    def band(self, pool: PoolPicture) -> tuple[float, float] | None:
        """The band of unrelated questions; None until the pool's picture is there."""
        if self._band is None and pool.sample is not None and pool.references is not None:
            self._band = null_band(pool.sample, self.vector, pool.references)
        return self._band


class Answers:
    """The last questions that were asked; used by the worker."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self._recent: Recent[Answer] = Recent(KEPT_RANKINGS)

    def of(self, prepared: Prepared) -> Answer:
        """The answer to a question, kept or new."""
        question = prepared.asked
        return self._recent.get((question.id, question.prompt, question.completion), lambda: self._answer(prepared))

    def _answer(self, prepared: Prepared) -> Answer:
        question, ranking = prepared.asked, self._explorer.ranking(prepared)
        texts = (question.prompt, question.completion, question.own_answer, question.read)
        return Answer(*texts, prepared.vector, prepared.trust, ranking)
