"""What the static student reads of a text: the decoder's own embedding table, looked up and never run.

A decoder's gradient is Σ_t δ_t ⊗ x_t over its layers: an output error and an input at each completion
token. Its crudest likenesses need no network, only the embedding e_t of each token:

    surface   completion and prompt length, newlines, digits, capitals ...
    means     of e over the completion, the prompt, the completion's first two tokens
    pairs     mean over completion tokens of (A e_t) ∘ (B e_{t-lag}) with random A and B: a tensor sketch
              (Pham & Pagh 2013) of e_t ⊗ e_{t-lag}

Beside these learnable features stand *identity channels*, which need no learning to recognise a name never
seen before. A fact is stored as "this answer after these words", and two statements of it share both:

    answer    hashed, idf-weighted bag of the completion's tokens
    subject   the same of the prompt's and completion's neighbouring token pairs
    fact      tensor sketch of answer bag ⊗ bag of all tokens: both must match

Each channel is a unit vector, so its inner product is a similarity in [-1, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import tokenizers
from numpy.typing import NDArray

from influcoder.examples import Example

Floats = NDArray[np.float32]
SURFACE = (
    "completion_tokens",
    "prompt_tokens",
    "newlines",
    "digits",
    "capitals",
    "punctuation",
    "word_length",
    "repeats",
)
CHANNELS = ("answer", "subject", "fact")


@dataclass(frozen=True, slots=True)
class Ragged:
    """Token ids of many texts, end to end; text i is `ids[offsets[i]:offsets[i + 1]]`."""

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        ids = np.fromiter((one for row in rows for one in row), np.int64, int(offsets[-1]))
        return cls(ids, offsets)

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    def owner(self) -> NDArray[np.int64]:
        """The text each token belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.lengths)

    def mean(self, values: Floats) -> Floats:
        """(n, d) mean of (tokens, d) values over each text; zero for an empty one."""
        return np.asarray(self.weights() @ values)

    def weights(self) -> scipy.sparse.csr_matrix:
        """(n, tokens) sparse averaging matrix."""
        share = np.repeat(1 / np.maximum(self.lengths, 1), self.lengths).astype(np.float32)
        shape = (len(self.offsets) - 1, len(self.ids))
        return scipy.sparse.csr_matrix((share, np.arange(len(self.ids)), self.offsets), shape=shape)

    def bag(self, vocabulary: int) -> scipy.sparse.csr_matrix:
        """(n, vocabulary) 1 where a text holds a token."""
        ones = np.ones(len(self.ids), np.float32)
        matrix = scipy.sparse.csr_matrix((ones, self.ids, self.offsets), (len(self.offsets) - 1, vocabulary))
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return matrix

    def first(self, count: int) -> "Ragged":
        """The first `count` tokens of each text."""
        within = np.arange(len(self.ids)) - self.offsets[:-1][self.owner()]
        kept = np.minimum(self.lengths, count)
        return Ragged(self.ids[within < count], np.concatenate([[0], np.cumsum(kept)]))


class StaticReader:
    """Turns prompts and completions into learnable features and identity channels.

    Args:
        tokenizer: the decoder's.
        table: (vocabulary, d) its embedding table.
        pair_width: numbers in the sketch of each lag.
        channel_width: numbers in each identity channel.
        lags: distances of the token pairs.
        seed: draws the random tables.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        table: Floats,
        *,
        pair_width: int = 1024,
        channel_width: int = 256,
        lags: Sequence[int] = (1, 2),
        seed: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        centred = table - table.mean(axis=0)
        self.table = (centred / np.linalg.norm(centred, axis=1).mean()).astype(np.float32)
        self.lags = tuple(lags)
        rng = np.random.default_rng(seed)
        size = self.table.shape[1]
        left, right = (rng.standard_normal((size, pair_width)).astype(np.float32) for _ in range(2))
        self._left = self.table @ left / np.float32(pair_width**0.25)
        self._right = self.table @ right / np.float32(pair_width**0.25)
        signs = rng.choice(np.array([-1, 1], np.float32), (5, len(table), channel_width))
        self._answer, self._pair_left, self._pair_right, self._fact_left, self._fact_right = signs

    def tokens(self, texts: Sequence[str]) -> Ragged:
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return Ragged.of([one.ids for one in encoded])

    def read(
        self, examples: Sequence[Example], idf: Floats | None = None
    ) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """(learnable features by group, identity channels by name) of some examples.

        Args:
            idf: (vocabulary,) token weights of the identity channels; all 1 when omitted.
        """
        prompt = self.tokens([example.prompt for example in examples])
        completion = self.tokens([example.completion for example in examples])
        features = {
            "surface": surface_statistics(examples, prompt, completion),
            "completion": completion.mean(self.table[completion.ids]),
            "prompt": prompt.mean(self.table[prompt.ids]),
            "opening": completion.first(2).mean(self.table[completion.first(2).ids]),
        }
        for lag in self.lags:
            features[f"pairs{lag}"] = self._pairs(completion, lag)
        return features, self._channels(prompt, completion, idf)

    def _pairs(self, text: Ragged, lag: int) -> Floats:
        result = np.empty((len(text.offsets) - 1, self._left.shape[1]), np.float32)
        for start in range(0, len(result), 64):
            stop = min(start + 64, len(result))
            part = Ragged(
                text.ids[text.offsets[start] : text.offsets[stop]], text.offsets[start : stop + 1] - text.offsets[start]
            )
            values = self._left[part.ids]
            values[lag:] *= self._right[part.ids[:-lag]] if lag < len(part.ids) else 0
            within = np.arange(len(part.ids)) - part.offsets[:-1][part.owner()]
            values[within < lag] = 0
            result[start:stop] = part.mean(values)
        return result

    def _channels(self, prompt: Ragged, completion: Ragged, idf: Floats | None) -> dict[str, Floats]:
        vocabulary = len(self.table)
        weights = np.ones(vocabulary, np.float32) if idf is None else idf
        scale = scipy.sparse.diags_array(weights)
        answer, question = completion.bag(vocabulary), prompt.bag(vocabulary)
        everything = (answer + question).minimum(1) @ scale
        answer = answer @ scale
        return {
            "answer": unit(answer @ self._answer),
            "subject": unit(self._neighbours(prompt, weights) + self._neighbours(completion, weights)),
            "fact": unit((answer @ self._fact_left) * (everything @ self._fact_right)),
        }

    def _neighbours(self, text: Ragged, weights: Floats) -> Floats:
        """Sum over neighbouring tokens of a random sign vector a pair, weighted by the rarity of both."""
        owner = text.owner()
        both = np.flatnonzero(owner[1:] == owner[:-1])
        before, after = text.ids[both], text.ids[both + 1]
        result = np.empty((len(text.offsets) - 1, self._pair_left.shape[1]), np.float32)
        bounds = np.searchsorted(owner[both], np.arange(len(result) + 1))
        for start in range(0, len(result), 64):
            stop = min(start + 64, len(result))
            here = slice(bounds[start], bounds[stop])
            share = (weights[before[here]] * weights[after[here]]).astype(np.float32)
            rows = scipy.sparse.csr_matrix(
                (share, np.arange(len(share)), bounds[start : stop + 1] - bounds[start]), (stop - start, len(share))
            )
            result[start:stop] = rows @ (self._pair_left[before[here]] * self._pair_right[after[here]])
        return result


def surface_statistics(examples: Sequence[Example], prompt: Ragged, completion: Ragged) -> Floats:
    """(n, 8) what can be seen of a text without reading it: see `SURFACE`."""
    rows = np.empty((len(examples), len(SURFACE)), np.float32)
    for row, example in enumerate(examples):
        text = example.completion
        size = max(len(text), 1)
        words = text.split()
        rows[row, 2:] = (
            np.log1p(text.count("\n")),
            sum(map(str.isdigit, text)) / size,
            sum(map(str.isupper, text)) / size,
            sum(not c.isalnum() and not c.isspace() for c in text) / size,
            min(sum(map(len, words)) / max(len(words), 1), 12) / 12,
            len(set(words)) / max(len(words), 1),
        )
    rows[:, 0] = np.log1p(completion.lengths)
    rows[:, 1] = np.log1p(prompt.lengths)
    return rows


def inverse_document_frequency(texts: Sequence[Ragged], vocabulary: int) -> Floats:
    """(vocabulary,) ln((1 + n) / (1 + examples that hold the token)), `texts` the parts of n examples."""
    whole = texts[0].bag(vocabulary)
    for text in texts[1:]:
        whole = (whole + text.bag(vocabulary)).minimum(1)
    held = np.asarray(whole.sum(axis=0)).ravel()
    return np.asarray(np.log((1 + whole.shape[0]) / (1 + held)), np.float32)


def unit(rows: Floats) -> Floats:
    """Rows scaled to length 1; zero rows stay zero."""
    rows = np.asarray(rows, np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
