"""Rivals that neither match words nor are plain teachers: a cascade, a regressor, decoders with changed weights."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from influcoder.data.examples import Example
from influcoder.errors import ModelError
from influcoder.evaluation.retraining import losses_of
from influcoder.evaluation.scorers import Scores
from influcoder.maths.arrays import Floats
from influcoder.maths.influence import cross_influence
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample
from influcoder.teachers.teacher import Teacher

SHORTLIST = 0.18
"""share of the pool that a cascade re-scores; with its cheap tier and the question's gradients a quarter of the cost"""
Reading = Callable[[Sequence[Example]], Floats]
"""frozen features of texts, (n, F)"""


class Length:
    """The number of a row's completion tokens, for every query: scores of a method that knows only length."""

    name = "length"
    bytes_per_example = 4

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        tokens = [row.targets for row in self.decoder.tokenise(pool)]
        return np.broadcast_to(np.array(tokens, np.float64), (len(queries), len(pool)))


class RowLoss:
    """A row's own loss, for every query: what is still to be learnt of it."""

    name = "row-loss"
    bytes_per_example = 4

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        return np.broadcast_to(losses_of(self.decoder, pool), (len(queries), len(pool)))


class Cascade:
    """An encoder's shortlist for each question, re-scored by the exact teacher; the rest keeps its order below.

    Args:
        share: of the pool that is re-scored for a question.
        one_question: all queries are one question, with one shortlist by their mean.
    """

    name = "cascade"

    def __init__(
        self, encoder: InfluenceEncoder, teacher: Teacher, share: float = SHORTLIST, *, one_question: bool = False
    ) -> None:
        self.encoder = encoder
        self.teacher = teacher
        self.share = share
        self.one_question = one_question
        self.bytes_per_example = 2 * encoder.dim

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        features = self.teacher.features(queries, "query").refuse_rejected(queries).vectors
        first = self.encoder.project_query(queries, features) @ self.encoder.encode_pool(pool).T
        if self.one_question:
            first = np.broadcast_to(first.mean(axis=0), first.shape)
        order = np.argsort(-first, axis=1, kind="stable")
        shortlist = order[:, : max(1, round(self.share * len(pool)))]
        rows, places = np.unique(shortlist, return_inverse=True)
        exact = cross_influence(features, self.teacher.features([pool[row] for row in rows], "pool").vectors)
        # The first of the rest stands just below the lowest exact score.
        scores = np.empty(first.shape)
        np.put_along_axis(scores, order, exact.min() - 1 - np.arange(len(pool))[None] / len(pool), 1)
        np.put_along_axis(scores, shortlist, np.take_along_axis(exact, places.reshape(shortlist.shape), 1), 1)
        return scores


def question_cost(queries: int, pool: int, share: float = SHORTLIST, *, one_question: bool = False) -> float:
    """Gradients that a cascade takes for one question, as a share of those that exact scoring takes.

    >>> question_cost(5, 99, 0.2)
    0.21
    """
    gradients = queries if one_question else 1
    return (gradients + max(1, round(share * pool))) / (gradients + pool)


class PointwiseRegressor:
    """Ridge from frozen features of a text to its mean influence on the queries, in the manner of MATES.

    Yu et al. 2024 (arXiv 2406.06046) regress the influence on a fixed reference set; so every query gets the same
    ranking. The penalty is chosen on validation examples.

    Args:
        read: frozen features.
        teacher: whose influence is regressed.
        queries: the reference set.
    """

    name = "mates"
    bytes_per_example = 2

    def __init__(self, read: Reading, teacher: Teacher, queries: Sequence[Example]) -> None:
        self._read = read
        self._reference = teacher.features(queries, "query").vectors.mean(axis=0, keepdims=True)

    def fit(self, train: Sample, validation: Sample) -> "PointwiseRegressor":
        """Learn from the pool examples of both splits; their queries are not used."""
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        targets = cross_influence(self._reference, train.pool_features)[0]
        truth = cross_influence(self._reference, validation.pool_features)
        features, held_out = self._read(train.pool), self._read(validation.pool)
        models = [
            make_pipeline(StandardScaler(), Ridge(alpha=features.shape[1] * 10.0**power)).fit(features, targets)
            for power in range(-4, 3)
        ]
        self._model = max(models, key=lambda model: float(spearman_rows(truth, model.predict(held_out)[None])[0]))
        return self

    def score(self, queries: Sequence[Example], pool: Sequence[Example]) -> Scores:
        predicted: NDArray[np.float64] = self._model.predict(self._read(pool))
        return np.tile(predicted, (len(queries), 1))


@torch.no_grad()
def with_shuffled_weights(decoder: Decoder, seed: int) -> Decoder:
    """A copy of a decoder in which the numbers of every tensor are shuffled, so that it has learnt nothing.

    The sanity check of Adebayo et al. 2018 (arXiv 1810.03292): scores that do not change with the weights explain
    texts, not the model.
    """
    model = copy.deepcopy(decoder.model)
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        places = torch.randperm(parameter.numel(), generator=draw).to(parameter.device)
        parameter.copy_(parameter.flatten()[places].view_as(parameter))
    return Decoder(model, decoder.tokenizer, name=f"{decoder.name}, shuffled", max_length=decoder.max_length)


def first_layers(decoder: Decoder, share: float = 0.5) -> Decoder:
    """A copy of a decoder with the first `share` of its layers, to be trained before use.

    Raises:
        ModelError: the decoder does not keep its layers in one list.
    """
    model = copy.deepcopy(decoder.model)
    lists = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == model.config.num_hidden_layers
    ]
    if len(lists) != 1:
        raise ModelError(
            f"{decoder.name}: expected one list of its {model.config.num_hidden_layers} layers, found {len(lists)}."
        )
    parent, name, layers = lists[0]
    count = max(1, round(share * len(layers)))
    setattr(parent, name, layers[:count])
    model.config.num_hidden_layers = count
    return Decoder(
        model, decoder.tokenizer, name=f"{decoder.name}, first {count} layers", max_length=decoder.max_length
    )
