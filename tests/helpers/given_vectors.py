"""Encoders whose vectors are given, and indexes made with them."""

import hashlib

import numpy as np

from influcoder.data.examples import Example
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index

DIM, ROWS, SHARD_ROWS = 6, 100, 16


class Hashed:
    """An encoder whose vectors are drawn from each completion."""

    fingerprint, dim, trust, query_projector = "f" * 64, DIM, {}, None

    def encode_pool(self, examples):
        rows = [np.frombuffer(hashlib.sha256(one.completion.encode()).digest(), np.uint8)[:DIM] for one in examples]
        return (np.stack(rows) / np.float32(16) - 8).astype(np.float32)

    encode_query = encode_pool

    def save(self, folder):
        """Nothing to keep."""


def pool(start=0, stop=ROWS):
    return [Example(f"id-{n}", f"prompt {n}", f"secret {n}", (), {"kind": n % 3}) for n in range(start, stop)]


def build(folder, examples=None, encoder=None, **options):
    examples = pool() if examples is None else examples
    return indexing.build(encoder or Hashed(), iter(examples), folder, shard_rows=SHARD_ROWS, **options)


def holds(folder, examples):
    """Whether an index is exactly of these examples, and finds them."""
    index = Index(folder)
    index.store.verify()
    assert [index.example(row) for row in range(len(index))] == examples
    assert index.ids == [one.id for one in examples]
    if examples:
        vectors = Hashed().encode_pool(examples)
        np.testing.assert_allclose(index.vectors, vectors, atol=0.01)
        best = np.argmax(vectors @ vectors[0])
        assert index.search(vectors[:1], 1).rows[0, 0] == best
    return True


class Fixed:
    """An encoder whose vectors are given."""

    fingerprint = "f" * 64

    def __init__(self, vectors):
        self.vectors = vectors
        self.dim = vectors.shape[1]

    def encode_pool(self, examples):
        return self.vectors[[int(example.id) for example in examples]]

    def save(self, folder):
        """Nothing to keep."""


def whole_numbers(rows, seed=0, low=-4, high=5):
    """Small whole numbers are exact in float16, so that scores are exact and ties are true ones."""
    return np.random.default_rng(seed).integers(low, high, (rows, DIM)).astype(np.float32)
