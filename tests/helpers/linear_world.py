"""A made-up world whose influences are known functions of the token table."""

import numpy as np

from influcoder.data.examples import Example
from influcoder.maths.metrics import spearman_rows
from influcoder.provenance import Provenance
from influcoder.student.decoder_tables import static_backbone
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.sample import Sample
from influcoder.student.token_bags import Ragged

WIDTH = 12
FEATURES = 40
RECIPE = ClosedFormRecipe(dim=WIDTH, product_width=32, channel_width=32)


def token_table(tokenizer):
    return np.random.default_rng(99).standard_normal((len(tokenizer), WIDTH)).astype(np.float32)


def nonsense(rng):
    letters = [chr(97 + one) for one in rng.integers(0, 26, 14)]
    return "".join(letters[:5]) + " " + "".join(letters[5:])


class World:
    """Examples whose teacher feature is a fixed linear map of the mean embedding of their completion."""

    def __init__(self, tokenizer, seed=0):
        self.tokenizer = tokenizer.backend_tokenizer
        self.table = token_table(tokenizer)
        self.map = np.random.default_rng(7).standard_normal((WIDTH, FEATURES)).astype(np.float32)
        self.rng = np.random.default_rng(seed)
        self.made = 0

    def examples(self, count):
        first, self.made = self.made, self.made + count
        return [Example(f"w{n}", nonsense(self.rng), nonsense(self.rng)) for n in range(first, first + count)]

    def features(self, examples):
        ids = Ragged.of([self.tokenizer.encode(one.completion).ids for one in examples])
        centred = self.table - self.table.mean(axis=0)
        return (ids.mean(centred[ids.ids]) @ self.map) / np.float32(20)

    def sample(self, n_queries, n_pool):
        queries, pool = self.examples(n_queries), self.examples(n_pool)
        return Sample(queries, pool, self.features(queries), self.features(pool))

    def backbone(self, tokenizer):
        return static_backbone(tokenizer, self.table)


def splits(tokenizer, seed=0):
    world = World(tokenizer, seed)
    return [world.sample(*size) for size in ((80, 160), (20, 40), (15, 60))]


def distilled(tokenizer, recipe=RECIPE, seed=0):
    train, validation, _ = splits(tokenizer, seed)
    return distill_static(
        World(tokenizer).backbone(tokenizer), train, validation, recipe, provenance=Provenance(encoder="x")
    )


def mean_spearman(truth, scores):
    return spearman_rows(truth, scores).mean()


def bytes_of(encoder):
    tensors = encoder.head.tensors() | {"query_projector": encoder.query_projector}
    return {name: tensor.tobytes() for name, tensor in tensors.items()}
