"""One example as a decoder reads it: token ids, and where loss begins."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tokens:
    """One example's token ids (int64, prompt then completion) and where its completion starts."""

    ids: NDArray[np.int64]
    start: int
    prompt_cut: bool = False
    completion_cut: bool = False
    boundary_moved: bool = False

    @property
    def targets(self) -> int:
        """How many completion tokens carry loss: a token needs one before it to be predicted."""
        return len(self.ids) - max(self.start, 1)

    def shortened(self, most: int) -> "Tokens":
        """At most so many tokens: the prompt's last and the completion's first, half each where both are long.

        >>> short = Tokens(np.arange(100), start=40).shortened(10)
        >>> short.ids.tolist(), short.start
        ([35, 36, 37, 38, 39, 40, 41, 42, 43, 44], 5)
        """
        if len(self.ids) <= most:
            return self
        first = max(self.start, 1)
        completion = min(self.targets, max(most // 2, most - first))
        begin = max(0, first - (most - completion))
        return replace(
            self,
            ids=self.ids[begin : first + completion],
            start=self.start - begin,
            prompt_cut=self.prompt_cut or begin > 0,
            completion_cut=self.completion_cut or completion < self.targets,
        )
