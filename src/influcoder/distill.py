"""Distil a teacher's influences into an encoder.

The static student is solved, not trained: ridge regression from what `influcoder.static` reads to the
spectral targets of `influcoder.influence`, each text supervised against the whole other side. Penalties and
channel weights are chosen on a validation split of queries *and* pool examples, never on the test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.decoder import Decoder
from influcoder.encoder import Floats, InfluenceEncoder
from influcoder.errors import ConfigError
from influcoder.examples import Example
from influcoder.head import ClosedFormHead, FeatureScale, RidgePath, Role, fit_weights
from influcoder.influence import SpectralTargets, cross_influence
from influcoder.metrics import agreement, spearman_rows
from influcoder.static import CHANNELS, StaticReader, inverse_document_frequency

PENALTIES = tuple(10.0**power for power in np.arange(-6, 1.5, 0.5))
GROUP_WEIGHTS = {"surface": 1.0, "completion": 1.0, "prompt": 0.5, "opening": 0.5, "pairs1": 1.0, "pairs2": 0.5}


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries and pool examples of one split with their teacher features, (n, width) unit rows."""

    queries: Sequence[Example]
    pool: Sequence[Example]
    query_features: Floats
    pool_features: Floats

    @property
    def influence(self) -> Floats:
        """(n_queries, n_pool)."""
        return np.asarray(cross_influence(self.query_features, self.pool_features), np.float32)

    def rows(self, queries: NDArray[np.int64], pool: NDArray[np.int64]) -> "Sample":
        """The part of it with these queries and pool examples."""
        return Sample(
            [self.queries[row] for row in queries],
            [self.pool[row] for row in pool],
            self.query_features[queries],
            self.pool_features[pool],
        )


@dataclass(frozen=True, slots=True)
class StaticRecipe:
    """How a static student is made.

    Attributes:
        dim: spectral dimensions.
        pair_width: numbers in the sketch of the token pairs of each lag.
        channel_width: numbers in each identity channel.
        lags: distances of the token pairs.
        seed: draws the random tables.
    """

    dim: int = 64
    pair_width: int = 1024
    channel_width: int = 512
    lags: tuple[int, ...] = (1, 2)
    seed: int = 0
    group_weights: dict[str, float] = field(default_factory=lambda: dict(GROUP_WEIGHTS))

    def reading(self) -> dict[str, Any]:
        """The settings that reading a text takes."""
        return {
            "pair_width": self.pair_width,
            "channel_width": self.channel_width,
            "lags": list(self.lags),
            "seed": self.seed,
        }


def distil_static(
    backbone: Any,
    train: Sample,
    validation: Sample,
    recipe: StaticRecipe | None = None,
    *,
    made_by: dict[str, Any] | None = None,
) -> InfluenceEncoder:
    """The static student of a teacher.

    Args:
        backbone: a Sentence Transformers model of one StaticEmbedding: the decoder's tokenizer and table
            (`static_backbone`).
        train: what the ridge regressions are solved on.
        validation: what penalties and channel weights are chosen on.

    Raises:
        ConfigError: the splits share an example, or one is too small.
    """
    recipe = recipe or StaticRecipe()
    _refuse_overlap(train, validation)
    module = backbone[0]
    reader = StaticReader(module.tokenizer, module.embedding.weight.detach().numpy(), **recipe.reading())
    idf = _idf(reader, train.pool)
    targets = SpectralTargets.of(train.query_features, train.pool_features, recipe.dim)
    seen = {
        "query": (reader.read(train.queries, idf)[0], *reader.read(validation.queries, idf)),
        "pool": (reader.read(train.pool, idf)[0], *reader.read(validation.pool, idf)),
    }
    truth = validation.influence
    # Each side's penalty is chosen against the other side's exact coordinates.
    exact_queries = validation.query_features @ targets.query_projector
    pool_projector = train.query_features.T @ (targets.queries / (targets.queries**2).sum(axis=0))
    exact_pool = validation.pool_features @ pool_projector
    query = Side.fit(*seen["query"][:2], targets.queries, recipe, lambda x: spearman_rows(truth, x @ exact_pool.T))
    pool = Side.fit(*seen["pool"][:2], targets.pool, recipe, lambda x: spearman_rows(truth, exact_queries @ x.T))
    channels = [seen["query"][2][name] @ seen["pool"][2][name].T for name in CHANNELS]
    weights = fit_weights(truth, [query.predicted @ pool.predicted.T, *channels])
    head = ClosedFormHead(
        **query.tensors("query"),
        **pool.tensors("pool"),
        idf=idf,
        spectral_weight=weights[:1],
        channel_weights=weights[1:],
    )
    encoder = InfluenceEncoder(
        backbone,
        head,
        query_projector=targets.query_projector.astype(np.float16).astype(np.float32),
        settings={"reading": recipe.reading(), "groups": list(pool.scale.names)},
        made_by=(made_by or {}) | {"recipe": "static"},
    )
    encoder.measured = measured(encoder, validation)
    return encoder


def backbone_of(decoder: Decoder) -> Any:
    """The static backbone of a decoder: its own tokenizer and embedding table."""
    return static_backbone(decoder.tokenizer, decoder.model.get_input_embeddings().weight.float().cpu().numpy())


def static_backbone(tokenizer: Any, table: Floats) -> Any:
    """A Sentence Transformers model that looks tokens up in a decoder's embedding table.

    Args:
        tokenizer: the decoder's, a fast one.
        table: (vocabulary, d) its input embeddings.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    module = StaticEmbedding(tokenizer, embedding_weights=np.asarray(table, np.float32).copy())
    return SentenceTransformer(modules=[module], device="cpu")


@dataclass(frozen=True, slots=True)
class Side:
    """One role's ridge solution, and what it predicts for the validation examples."""

    scale: FeatureScale
    weights: Floats
    bias: Floats
    predicted: Floats

    @classmethod
    def fit(
        cls,
        train: Mapping[str, Floats],
        validation: Mapping[str, Floats],
        targets: Floats,
        recipe: StaticRecipe,
        judge: Callable[[Floats], Floats],
    ) -> "Side":
        """The solution whose penalty `judge` likes best on the validation examples."""
        scale = FeatureScale.fit(train, recipe.group_weights)
        bias = targets.mean(axis=0).astype(np.float32)
        path = RidgePath.fit(scale.join(train))
        seen = scale.join(validation)
        solutions = [path.weights(targets - bias, penalty) for penalty in PENALTIES]
        best = max(solutions, key=lambda weights: float(np.mean(judge(seen @ weights + bias))))
        return cls(scale, best, bias, seen @ best + bias)

    def tensors(self, role: Role) -> dict[str, Floats]:
        """What `ClosedFormHead` keeps of it."""
        parts = {"mean": self.scale.mean, "scale": self.scale.scale, "weights": self.weights, "bias": self.bias}
        return {f"{role}_{name}": value for name, value in parts.items()}


def _idf(reader: StaticReader, pool: Sequence[Example]) -> Floats:
    texts = [reader.tokens([one.prompt for one in pool]), reader.tokens([one.completion for one in pool])]
    return inverse_document_frequency(texts, len(reader.table))


def measured(encoder: InfluenceEncoder, validation: Sample) -> dict[str, float]:
    """An encoder's agreement with its teacher on validation examples, both sides from text."""
    scores = encoder.encode_query(validation.queries) @ encoder.encode_pool(validation.pool).T
    lengths = np.array([len(one.completion) for one in validation.pool])
    found = agreement(validation.influence, scores, lengths)
    return {name: value for name, value in found.items() if isinstance(value, float)}


def _refuse_overlap(train: Sample, validation: Sample) -> None:
    for side in ("queries", "pool"):
        mine, theirs = getattr(train, side), getattr(validation, side)
        if len(mine) < 2 or len(theirs) < 2:
            raise ConfigError(
                f"{side}: {len(mine)} to train on, {len(theirs)} to validate on; expected at least 2 each."
            )
        shared = {one.id for one in mine} & {one.id for one in theirs}
        if shared:
            raise ConfigError(f"{side}: {len(shared)} examples are in both splits, {sorted(shared)[0]!r} among them.")
