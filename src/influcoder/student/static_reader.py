"""What the static student reads of a text: the decoder's own embedding table, looked up and never run.

A decoder's gradient is Σ_t δ_t ⊗ x_t over its layers: an output error and an input at each completion
token. Its simplest approximations need no network, only the embedding e_t of each token:

    surface   completion and prompt length, newlines, digits, capitals ...
    means     of e over the completion, the prompt, the completion's first two tokens
    error     unit mean over completion tokens of d_t = m(t-1) - w_t: the output error of the decoder if it saw one
              token of context. w is its output embedding, m(v) = Σ_u p(u | v) w_u, one forward pass a vocabulary entry
    prompt_error  the same over the prompt's tokens
    products  unit mean over completion tokens of (A d_t) ∘ (B e_{t-1}) with random A and B: a tensor sketch
              (Pham & Pagh 2013) of Σ d_t ⊗ e_{t-1}, which is a gradient's own form at one token of context

Beside these learnable features there are *identity channels*, which need no learning to recognise a name never
seen before. A fact is stored as "this answer after these words", and two statements of it share both:

    answer    hashed, idf-weighted bag of the completion's tokens
    subject   the same of the prompt's and completion's neighbouring token pairs
    fact      tensor sketch of answer bag ⊗ bag of all tokens: both must match

Each channel is a unit vector, so its inner product is a similarity in [-1, 1].
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import scipy.sparse
import tokenizers
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats, unit_rows
from influcoder.student.token_bags import Ragged

CHANNELS = ("answer", "subject", "fact")
TEXTS_AT_ONCE = 4
"""in a sketch of products: more do not fit the caches"""


class StaticReader:
    """Turns prompts and completions into learnable features and identity channels.

    Args:
        tokenizer: the decoder's.
        table: (vocabulary, d) its embedding table.
        predicted: (vocabulary, d) the mean output embedding it expects after each token; without, errors are not
            read, and `products` are those of -w_t.
        head: (vocabulary, d) its output embeddings; the table when omitted.
        product_width: numbers in the sketch of the products.
        channel_width: numbers in each identity channel.
        seed: draws the random tables.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        table: Floats,
        *,
        predicted: Floats | None = None,
        head: Floats | None = None,
        product_width: int = 1024,
        channel_width: int = 256,
        seed: int = 0,
    ) -> None:
        self.tokenizer = tokenizer
        centred = table - table.mean(axis=0)
        self.table = (centred / np.linalg.norm(centred, axis=1).mean()).astype(np.float32)
        self.head = table if head is None else head
        self.predicted = predicted
        self._widths = product_width, channel_width
        self._seed = seed

    @property
    def groups(self) -> tuple[str, ...]:
        """The feature groups that can be read."""
        errors = () if self.predicted is None else ("error", "prompt_error")
        return ("surface", "completion", "prompt", "opening", *errors, "products")

    def tokens(self, texts: Sequence[str]) -> Ragged:
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        if self.tokenizer.get_vocab_size() > len(self.table):  # tokens that the decoder has no row for are left out
            return Ragged.of([[token for token in text.ids if token < len(self.table)] for text in encoded])
        return Ragged.of([text.ids for text in encoded])

    def read(
        self,
        examples: Sequence[Example],
        groups: Sequence[str] | None = None,
        channels: Sequence[str] = CHANNELS,
        idf: Floats | None = None,
    ) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """(learnable features by group, identity channels by name) of some examples; only what is asked for.

        Args:
            groups: all of them when omitted.
            idf: (vocabulary,) token weights of the identity channels; all 1 when omitted.
        """
        texts = self.tokens([text for example in examples for text in (example.prompt, example.completion)])
        prompt, completion = texts.every_other(0), texts.every_other(1)
        readers: dict[str, Callable[[], Floats]] = {
            "surface": lambda: self._surface(prompt, completion),
            "completion": lambda: unit_rows(completion.mean_of(self.table)),
            "prompt": lambda: unit_rows(prompt.mean_of(self.table)),
            "opening": lambda: completion.first(2).mean_of(self.table),
            "error": lambda: self._error(prompt, completion),
            "prompt_error": lambda: self._error(prompt.first(0), prompt),
            "products": lambda: self._products(prompt, completion),
        }
        features = {name: readers[name]() for name in (self.groups if groups is None else groups)}
        return features, self._channels(prompt, completion, channels, idf)

    def _surface(self, prompt: Ragged, completion: Ragged) -> Floats:
        """(n, 8) lengths, shares of characters of some kinds, mean word length and distinct tokens of the texts."""
        counts = completion.counts(len(self.table))
        characters, newlines, digits, capitals, punctuation, spaced = (counts @ self._characters).T
        words = spaced + (completion.lengths > 0)  # no space before the first word
        distinct = np.diff(counts.indptr)
        size = np.maximum(characters, 1)
        columns = (
            np.log1p(completion.lengths),
            np.log1p(prompt.lengths),
            np.log1p(newlines),
            digits / size,
            capitals / size,
            punctuation / size,
            np.minimum(characters / np.maximum(words, 1), 12) / 12,
            distinct / np.maximum(completion.lengths, 1),
        )
        return np.stack(columns, axis=1).astype(np.float32)

    @cached_property
    def _characters(self) -> Floats:
        """(vocabulary, 6) of each token: characters, newlines, digits, capitals, punctuation, beginnings of words."""
        rows = np.zeros((len(self.table), 6), np.float32)
        ids = range(min(len(self.table), self.tokenizer.get_vocab_size()))
        for row, text in enumerate(self.tokenizer.decode_batch([[token] for token in ids], skip_special_tokens=False)):
            rows[row] = (
                len(text),
                text.count("\n"),
                sum(map(str.isdigit, text)),
                sum(map(str.isupper, text)),
                sum(not c.isalnum() and not c.isspace() for c in text),
                text[:1].isspace() and not text.isspace(),
            )
        return rows

    def _error(self, before: Ragged, text: Ragged) -> Floats:
        """(n, d) unit mean error over the tokens of `text` that follow one, the first the last of `before`."""
        if self.predicted is None:
            raise ConfigError("this reader has no table of what the decoder expects, so it cannot read its errors.")
        contexts, tokens = text.with_contexts(before)
        return unit_rows(contexts.bag_sum(self.predicted) - tokens.bag_sum(self.head))

    @cached_property
    def _product_tables(self) -> tuple[Floats, Floats, Floats]:
        """(vocabulary, width) each: A m(v), A w_v and B e_v."""
        rng, width = np.random.default_rng(self._seed), self._widths[0]
        centre = self.head.mean(axis=0)
        size = np.linalg.norm(self.head - centre, axis=1).mean()
        left, right = (
            rng.standard_normal((table.shape[1], width)).astype(np.float32) / np.float32(width**0.25)
            for table in (self.head, self.table)
        )
        output = ((self.head - centre) / size).astype(np.float32) @ left
        expected = np.zeros_like(output)
        if self.predicted is not None:
            expected = ((self.predicted - centre) / size).astype(np.float32) @ left
        return expected, output, self.table @ right

    def _products(self, prompt: Ragged, completion: Ragged) -> Floats:
        expected, output, inputs = self._product_tables
        contexts, tokens = completion.with_contexts(prompt)
        bounds = tokens.offsets
        result = np.empty((len(bounds) - 1, inputs.shape[1]), np.float32)
        for start in range(0, len(result), TEXTS_AT_ONCE):
            stop = min(start + TEXTS_AT_ONCE, len(result))
            span = slice(bounds[start], bounds[stop])
            values = expected[contexts.ids[span]]
            values -= output[tokens.ids[span]]
            values *= inputs[contexts.ids[span]]
            result[start:stop] = Ragged(tokens.ids[span], bounds[start : stop + 1] - bounds[start]).mean(values)
        return unit_rows(result)

    @cached_property
    def _signs(self) -> NDArray[np.float32]:
        """(5, vocabulary, channel width) random signs: answer, pair left and right, fact left and right."""
        rng = np.random.default_rng((self._seed, 1))
        return rng.choice(np.array([-1, 1], np.float32), (5, len(self.table), self._widths[1]))

    def _channels(
        self, prompt: Ragged, completion: Ragged, names: Sequence[str], idf: Floats | None
    ) -> dict[str, Floats]:
        if not names:
            return {}
        vocabulary = len(self.table)
        weights = np.ones(vocabulary, np.float32) if idf is None else idf
        scale = scipy.sparse.diags_array(weights)
        bag = completion.bag(vocabulary)
        everything, answer = (bag + prompt.bag(vocabulary)).minimum(1) @ scale, bag @ scale
        readers: dict[str, Callable[[], Floats]] = {
            "answer": lambda: answer @ self._signs[0],
            "subject": lambda: self._neighbours(prompt, weights) + self._neighbours(completion, weights),
            "fact": lambda: (answer @ self._signs[3]) * (everything @ self._signs[4]),
        }
        return {name: unit_rows(readers[name]()) for name in names}

    def _neighbours(self, text: Ragged, weights: Floats) -> Floats:
        """Sum over neighbouring tokens of one random sign vector per pair, weighted by the rarity of both."""
        owner = text.owner()
        pairs = np.flatnonzero(owner[1:] == owner[:-1])
        before, after = text.ids[pairs], text.ids[pairs + 1]
        left, right = self._signs[1], self._signs[2]
        result = np.empty((len(text.offsets) - 1, left.shape[1]), np.float32)
        bounds = np.searchsorted(owner[pairs], np.arange(len(result) + 1))
        for start in range(0, len(result), TEXTS_AT_ONCE):
            stop = min(start + TEXTS_AT_ONCE, len(result))
            span = slice(bounds[start], bounds[stop])
            share = (weights[before[span]] * weights[after[span]]).astype(np.float32)
            rows = scipy.sparse.csr_matrix(
                (share, np.arange(len(share)), bounds[start : stop + 1] - bounds[start]), (stop - start, len(share))
            )
            result[start:stop] = rows @ (left[before[span]] * right[after[span]])
        return result


def inverse_document_frequency(texts: Sequence[Ragged], vocabulary: int) -> Floats:
    """(vocabulary,) ln((1 + n) / (1 + examples that hold the token)), `texts` the parts of n examples."""
    bags = texts[0].bag(vocabulary)
    for text in texts[1:]:
        bags = (bags + text.bag(vocabulary)).minimum(1)
    frequency = np.asarray(bags.sum(axis=0)).ravel()
    return np.asarray(np.log((1 + bags.shape[0]) / (1 + frequency)), np.float32)
