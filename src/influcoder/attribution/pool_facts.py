"""What a selection rule asks of an index's rows beside their scores."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.near_duplicates import signatures
from influcoder.attribution.pool_columns import PoolColumns
from influcoder.indexes.index import Index
from influcoder.student.backbone import tokenizer_of

AT_ONCE = 4096
"""texts that are tokenised together"""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """The rows of an index, read when a rule asks for them."""

    index: Index

    def tokens(self) -> NDArray[np.int64]:
        """(n,) tokens of prompt and completion, by the encoder's tokenizer (of most tiers the decoder's)."""
        tokenizer, texts, counts = tokenizer_of(self.index.encoder.backbone), self._texts(), []
        while batch := list(islice(texts, AT_ONCE)):
            counts += [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
        return np.array(counts, np.int64)

    def kinds(self, column: str) -> list[str]:
        """(n,) of a column of the metadata, as text; "" where a row has no value.

        Raises:
            ConfigError: no row has such a column.
        """
        return [text or "" for text in PoolColumns(self.index).as_text(column)]

    def signatures(self) -> NDArray[np.uint32]:
        """(n, ...) of prompt and completion."""
        return signatures(self._texts())

    def _texts(self) -> Iterator[str]:
        return (f"{example.prompt}\n{example.completion}" for example in self.index.examples())
