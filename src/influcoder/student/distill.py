"""Distill a teacher's influences into an encoder.

The student is solved, not trained: ridge regression from what `static_reader` reads (and the slower tiers from what
`forward_reader` and `short_reader` do) to the spectral targets of `influcoder.maths.influence`, each text supervised
against the whole other side. What is read, penalties and channel weights are chosen on a validation split of queries
*and* pool examples, never on the test.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example, Role
from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats
from influcoder.maths.influence import SpectralTargets
from influcoder.maths.metrics import agreement_with, spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.provenance import Provenance, StudentRecord
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.forward_reader import ForwardReader
from influcoder.student.head import ClosedFormHead, worthwhile_weights
from influcoder.student.measured import measure
from influcoder.student.pseudo_labels import PseudoLabels
from influcoder.student.ridge import Choice, RidgeSolution
from influcoder.student.sample import Sample, refuse_overlap
from influcoder.student.short_reader import ShortReader
from influcoder.student.static_reader import CHANNELS, StaticReader, inverse_document_frequency
from influcoder.student.trust import Trust
from influcoder.teachers.make import teacher_again
from influcoder.teachers.teacher import Teacher


@dataclass(frozen=True, slots=True)
class ClosedFormRecipe:
    """How a closed-form student is made.

    Attributes:
        dim: spectral dimensions.
        product_width: numbers in the sketch of errors times inputs.
        channel_width: numbers in each identity channel.
        short_tokens: of a text whose gradient the short tier takes.
        seed: draws the random tables.
    """

    dim: int = 64
    product_width: int = 1024
    channel_width: int = 512
    short_tokens: int = 80
    seed: int = 0

    def reading(self) -> dict[str, Any]:
        """The settings that reading a text takes."""
        return {
            "product_width": self.product_width,
            "channel_width": self.channel_width,
            "seed": self.seed,
        }


def distill_static(
    backbone: Any,
    train: Sample,
    validation: Sample,
    recipe: ClosedFormRecipe | None = None,
    *,
    expected: Mapping[str, Floats] | None = None,
    forward: Decoder | None = None,
    short: Teacher | None = None,
    pseudo: PseudoLabels | None = None,
    refit: bool = True,
    provenance: Provenance | None = None,
) -> InfluenceEncoder:
    """The closed-form student of a teacher: the static tier, or the forward or short tier.

    What is read of a text, the penalties and the channel weights are chosen on `validation`; the head is then solved
    on both splits together.

    Args:
        backbone: a Sentence Transformers model of one StaticEmbedding: the decoder's tokenizer and table
            (`static_backbone`).
        train: what the ridge regressions are solved on while choices are made.
        validation: what they are made by.
        expected: what the decoder expects after each token (`expected_embeddings`).
        forward: the decoder whose forward pass is read as well.
        short: the teacher, whose gradients of shortened texts are read as well.
        pseudo: further examples to learn from, labelled by a slower student of the same splits.
        refit: solve the head on both splits at the end; without it the student has seen nothing of `validation` but its
            choices, as one must that labels examples for another.

    Raises:
        ConfigError: the splits share an example, or one is too small; two slow tiers are asked for at once; or the
            pseudo-labels come from a student of other splits.

    >>> from influcoder import FeaturesFolder
    >>> features = FeaturesFolder("features")
    >>> encoder = distill_static(features.backbone, *features.split(seed=0), expected=features.expected)
    >>> sorted(encoder.measured)[0]
    'aggregated_spearman'
    """
    recipe = recipe or ClosedFormRecipe()
    refuse_overlap(train, validation)
    if forward is not None and short is not None:
        raise ConfigError("a student reads a forward pass or a shortened text's gradient, not both.")
    targets = SpectralTargets.of(train.query_features, train.pool_features, recipe.dim)
    projectors = _as_kept(targets.query_projector), _as_kept(targets.pool_projector)
    encoder = InfluenceEncoder(backbone, None, expected=expected, settings={"tier": "static"})
    encoder.query_projector = projectors[0]
    if forward is not None:
        encoder.settings["tier"], encoder.beside = "forward", ForwardReader(forward)
    if short is not None:
        encoder.settings |= {"tier": "short", "short_tokens": recipe.short_tokens}
        provenance = short.provenance
        encoder.pool_projector = projectors[1]
        again = teacher_again(short.provenance, short.state(), short.decoder.shortened(recipe.short_tokens))
        encoder.beside = ShortReader(again, *projectors)
    encoder.settings["reading"] = recipe.reading()
    if pseudo is not None:
        pseudo.refuse_other_basis(projectors[0])
    student = StudentRecord(encoder.tier, recipe.seed, **(pseudo.record if pseudo else {}))
    encoder.provenance = replace(provenance or Provenance(), student=student)
    exact_queries = np.asarray(validation.query_features @ targets.query_projector, np.float32)
    exact_pool = np.asarray(validation.pool_features @ targets.pool_projector, np.float32)
    sides: _Sides = {
        "query": _SideFeatures.read(
            encoder, "query", train.queries, targets.queries, validation.queries, exact_queries, pseudo
        ),
        "pool": _SideFeatures.read(encoder, "pool", train.pool, targets.pool, validation.pool, exact_pool, pseudo),
    }
    truth = validation.influence
    choices = _choices(sides, train, validation, targets, truth)
    _solve(encoder, sides, choices, train, validation, truth, refit)
    return encoder


def distill_tier(
    tier: str,
    backbone: Any,
    train: Sample,
    validation: Sample,
    recipe: ClosedFormRecipe,
    *,
    expected: Mapping[str, Floats] | None = None,
    decoder: Decoder | None = None,
    teacher: Teacher | None = None,
    unlabelled: tuple[Sequence[Example], Sequence[Example]] = ((), ()),
    provenance: Provenance | None = None,
) -> InfluenceEncoder:
    """The closed-form student of a tier; where there are unlabelled examples, a short tier labels them first.

    Args:
        tier: "static", "forward" or "short".
        decoder: whose forward pass the forward tier reads.
        teacher: whose gradients the short tier takes, as a student or to label.
        unlabelled: (queries, pool examples) without features.
        backbone, train, validation, expected: as of `distill_static`.
    """
    solve = partial(distill_static, backbone, train, validation, recipe, expected=expected)
    labels = PseudoLabels.by(solve(short=teacher, refit=False), *unlabelled) if any(unlabelled) else None
    return solve(
        forward=decoder if tier == "forward" else None,
        short=teacher if tier == "short" else None,
        pseudo=labels,
        provenance=provenance,
    )


@dataclass(frozen=True, slots=True)
class _SideFeatures:
    """What is read of one side's examples in both splits, by group, and where they lie.

    Attributes:
        train, validation: features by group.
        labels, exact: (n, k) coordinates of the training and of the validation examples.
    """

    train: dict[str, Floats]
    validation: dict[str, Floats]
    labels: Floats
    exact: Floats

    @classmethod
    def read(
        cls,
        encoder: InfluenceEncoder,
        role: Role,
        train: Sequence[Example],
        labels: Floats,
        validation: Sequence[Example],
        exact: Floats,
        pseudo: PseudoLabels | None,
    ) -> "_SideFeatures":
        if pseudo is not None:
            more, told = pseudo.of(role)
            train, labels = [*train, *more], np.concatenate([labels, told])
        return cls(encoder.features(train, role), encoder.features(validation, role), labels, exact)

    def choose(self, judge: Callable[[Floats], float]) -> Choice:
        return Choice.best(self.train, self.validation, self.labels, judge)

    def solve(self, choice: Choice) -> RidgeSolution:
        """The ridge solution on the training examples."""
        return RidgeSolution.solve(self.train, self.labels, choice)

    def refit(self, choice: Choice) -> RidgeSolution:
        """The ridge solution on both splits."""
        both = {name: np.concatenate([self.train[name], self.validation[name]]) for name in choice.groups}
        return RidgeSolution.solve(both, np.concatenate([self.labels, self.exact]), choice)


_Sides = dict[Role, _SideFeatures]
_Choices = dict[Role, Choice]


def _choices(sides: _Sides, train: Sample, validation: Sample, targets: SpectralTargets, truth: Floats) -> _Choices:
    """What each side reads. Validation examples are judged against the whole other side: few of them tell little."""
    queries = np.concatenate([targets.queries, sides["query"].exact])
    pool = np.concatenate([targets.pool, sides["pool"].exact])
    of_queries = np.concatenate([validation.query_features @ train.pool_features.T, truth], axis=1)
    of_pool = np.concatenate([train.query_features @ validation.pool_features.T, truth], axis=0)
    judges = agreement_with(of_queries), agreement_with(of_pool)
    return {
        "query": sides["query"].choose(lambda mine: judges[0](mine @ pool.T)),
        "pool": sides["pool"].choose(lambda mine: judges[1](queries @ mine.T)),
    }


def _solve(
    encoder: InfluenceEncoder,
    sides: _Sides,
    choices: _Choices,
    train: Sample,
    validation: Sample,
    truth: Floats,
    refit: bool,
) -> None:
    """Give the encoder its head, and what validation examples say of it."""
    query, pool = sides["query"], sides["pool"]
    solved = query.solve(choices["query"]), pool.solve(choices["pool"])
    guessed_queries, guessed_pool = solved[0].predict(query.validation), solved[1].predict(pool.validation)
    if refit:
        solved = query.refit(choices["query"]), pool.refit(choices["pool"])
    idf = _idf(encoder.reader, train.pool)
    channels = encoder.channels(validation.queries, idf), encoder.channels(validation.pool, idf)
    parts = [guessed_queries @ guessed_pool.T, *(channels[0][name] @ channels[1][name].T for name in CHANNELS)]
    weights = worthwhile_weights(truth, parts)
    scores = _summed(weights, parts)
    encoder.settings["groups"] = {role: list(choice.groups) for role, choice in choices.items()}
    encoder.head = ClosedFormHead(
        **solved[0].tensors("query"),
        **solved[1].tensors("pool"),
        idf=idf,
        spectral_weight=weights[:1],
        channel_weights=weights[1:],
    )
    measure(encoder, validation, scores)
    known = {
        "text": (guessed_queries, scores),
        "exact": (query.exact, _summed(weights, [query.exact @ guessed_pool.T, *parts[1:]])),
    }
    encoder.trust = {
        how: Trust.fit(encoder.head.vectors(coordinates, channels[0]), spearman_rows(truth, found))
        for how, (coordinates, found) in known.items()
    }


def _as_kept(projector: NDArray[Any]) -> Floats:
    """As it is read again from its file, in half precision."""
    return np.asarray(projector.astype(np.float16), np.float32)


def _summed(weights: Floats, parts: Sequence[Floats]) -> Floats:
    return np.asarray(sum(weight * part for weight, part in zip(weights, parts, strict=True)), np.float32)


def _idf(reader: StaticReader, pool: Sequence[Example]) -> Floats:
    texts = [reader.tokens([one.prompt for one in pool]), reader.tokens([one.completion for one in pool])]
    return inverse_document_frequency(texts, len(reader.table))
