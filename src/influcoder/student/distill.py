"""Distill a teacher's influences into an encoder.

The student is solved, not trained: ridge regression from what `static_reader` reads (and the slower tiers from what
`forward_reader` and `short_reader` do) to the spectral targets of `influcoder.maths.influence`, each text supervised
against all examples of the other role. Feature groups, penalties and channel weights are chosen on a validation split
of queries *and* pool examples, never on the test.
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
from influcoder.student.effort import SHORT, STATIC, Effort
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.head import ClosedFormHead, worthwhile_weights
from influcoder.student.measured import measure
from influcoder.student.pseudo_labels import PseudoLabels
from influcoder.student.readers import forward_reader
from influcoder.student.ridge import Choice, RidgeSolution
from influcoder.student.sample import Sample, refuse_overlap
from influcoder.student.short_reader import ShortReader
from influcoder.student.static_reader import CHANNELS, inverse_document_frequency
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
        seed: draws the random tables.
    """

    dim: int = 64
    product_width: int = 1024
    channel_width: int = 512
    seed: int = 0

    def reading(self) -> dict[str, Any]:
        """The settings of `StaticReader`."""
        return {"product_width": self.product_width, "channel_width": self.channel_width, "seed": self.seed}


def distill_static(
    backbone: Any,
    train: Sample,
    validation: Sample,
    recipe: ClosedFormRecipe | None = None,
    *,
    expected: Mapping[str, Floats] | None = None,
    effort: Effort = STATIC,
    decoder: Decoder | None = None,
    teacher: Teacher | None = None,
    pseudo: PseudoLabels | None = None,
    refit: bool = True,
    provenance: Provenance | None = None,
) -> InfluenceEncoder:
    """The closed-form student of a teacher.

    Feature groups, penalties and channel weights are chosen on `validation`; the head is then solved on both splits
    together.

    Args:
        backbone: a Sentence Transformers model of one StaticEmbedding: the decoder's tokenizer and table
            (`static_backbone`).
        train: what the ridge regressions are solved on while these choices are made.
        validation: what the choices are made on.
        expected: what the decoder expects after each token (`expected_embeddings`).
        effort: what of the decoder is run on each text, and read as well.
        decoder: what is run, where no gradient is taken.
        teacher: whose gradients are taken, where they are.
        pseudo: further examples to learn from, labelled by a slower student of the same splits.
        refit: solve the head on both splits at the end; without it only the choices depend on `validation`, as is
            needed of a student that labels examples for another.

    Raises:
        ConfigError: the splits share an example, or one is too small; `effort` wants a decoder or a teacher that is not
            given; or the pseudo-labels come from a student of other splits.

    >>> from influcoder import FeaturesFolder
    >>> features = FeaturesFolder("features")
    >>> encoder = distill_static(features.backbone, *features.split(seed=0), expected=features.expected)
    >>> sorted(encoder.measured)[0]
    'aggregated_spearman'
    """
    recipe = recipe or ClosedFormRecipe()
    refuse_overlap(train, validation)
    targets = SpectralTargets.of(train.query_features, train.pool_features, recipe.dim)
    projectors = _as_saved(targets.query_projector), _as_saved(targets.pool_projector)
    encoder = InfluenceEncoder(backbone, None, expected=expected, settings=effort.settings())
    encoder.query_projector = projectors[0]
    if effort.backward:
        if teacher is None:
            raise ConfigError("a student that takes gradients needs the teacher: give it as `teacher`.")
        provenance = teacher.provenance
        encoder.pool_projector = projectors[1]
        again = teacher_again(teacher.provenance, teacher.state(), effort.reading(teacher.decoder))
        encoder.decoder_reader = ShortReader(again, *projectors)
    elif effort.depth:
        if decoder is None:
            raise ConfigError("a student that runs the decoder needs it: give it as `decoder`.")
        encoder.decoder_reader = forward_reader(effort, decoder)
    encoder.settings["reading"] = recipe.reading()
    if pseudo is not None:
        pseudo.refuse_other_basis(projectors[0])
    student = StudentRecord(encoder.tier, recipe.seed, **(pseudo.record if pseudo else {}))
    encoder.provenance = replace(provenance or Provenance(), student=student)
    exact_queries = np.asarray(validation.query_features @ targets.query_projector, np.float32)
    exact_pool = np.asarray(validation.pool_features @ targets.pool_projector, np.float32)
    read = partial(_RoleFeatures.read, encoder, pseudo)
    roles: _Roles = {
        "query": read("query", train.queries, targets.queries, validation.queries, exact_queries),
        "pool": read("pool", train.pool, targets.pool, validation.pool, exact_pool),
    }
    truth = validation.influence
    choices = _choices(roles, train, validation, targets, truth)
    _solve(encoder, roles, choices, train, validation, truth, refit)
    return encoder


def distill_student(
    effort: Effort,
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
    """The closed-form student; unlabelled examples are labelled by a student of the short tier first.

    Args:
        teacher: whose gradients are taken, by the student or by the one that labels.
        unlabelled: (queries, pool examples) without features.
        effort, backbone, train, validation, expected, decoder: as of `distill_static`.
    """
    solve = partial(distill_static, backbone, train, validation, recipe, expected=expected)
    labels = (
        PseudoLabels.by(solve(effort=SHORT, teacher=teacher, refit=False), *unlabelled) if any(unlabelled) else None
    )
    return solve(effort=effort, decoder=decoder, teacher=teacher, pseudo=labels, provenance=provenance)


@dataclass(frozen=True, slots=True)
class _RoleFeatures:
    """The features of one role's examples in both splits, by group, and their spectral coordinates.

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
        pseudo: PseudoLabels | None,
        role: Role,
        train: Sequence[Example],
        labels: Floats,
        validation: Sequence[Example],
        exact: Floats,
    ) -> "_RoleFeatures":
        if pseudo is not None:
            examples, coordinates = pseudo.of(role)
            train, labels = [*train, *examples], np.concatenate([labels, coordinates])
        return cls(encoder.features(train, role), encoder.features(validation, role), labels, exact)

    def choose(self, agreement: Callable[[Floats], float]) -> Choice:
        return Choice.best(self.train, self.validation, self.labels, agreement)

    def solve(self, choice: Choice) -> RidgeSolution:
        """The ridge solution on the training examples."""
        return RidgeSolution.solve(self.train, self.labels, choice)

    def refit(self, choice: Choice) -> RidgeSolution:
        """The ridge solution on both splits."""
        features = {name: np.concatenate([self.train[name], self.validation[name]]) for name in choice.groups}
        return RidgeSolution.solve(features, np.concatenate([self.labels, self.exact]), choice)


_Roles = dict[Role, _RoleFeatures]
_Choices = dict[Role, Choice]


def _choices(roles: _Roles, train: Sample, validation: Sample, targets: SpectralTargets, truth: Floats) -> _Choices:
    """The groups and penalty of each role, judged by validation examples against all examples of the other role."""
    queries = np.concatenate([targets.queries, roles["query"].exact])
    pool = np.concatenate([targets.pool, roles["pool"].exact])
    of_queries = np.concatenate([validation.query_features @ train.pool_features.T, truth], axis=1)
    of_pool = np.concatenate([train.query_features @ validation.pool_features.T, truth], axis=0)
    query_agreement, pool_agreement = agreement_with(of_queries), agreement_with(of_pool)
    return {
        "query": roles["query"].choose(lambda coordinates: query_agreement(coordinates @ pool.T)),
        "pool": roles["pool"].choose(lambda coordinates: pool_agreement(queries @ coordinates.T)),
    }


def _solve(
    encoder: InfluenceEncoder,
    roles: _Roles,
    choices: _Choices,
    train: Sample,
    validation: Sample,
    truth: Floats,
    refit: bool,
) -> None:
    """Give the encoder its head, its agreement with the teacher and its trust."""
    query, pool = roles["query"], roles["pool"]
    solved = query.solve(choices["query"]), pool.solve(choices["pool"])
    predicted_queries, predicted_pool = solved[0].predict(query.validation), solved[1].predict(pool.validation)
    if refit:
        solved = query.refit(choices["query"]), pool.refit(choices["pool"])
    texts = [
        encoder.reader.tokens([getattr(example, part) for example in train.pool]) for part in ("prompt", "completion")
    ]
    idf = inverse_document_frequency(texts, len(encoder.reader.table))
    channels = encoder.channels(validation.queries, idf), encoder.channels(validation.pool, idf)
    parts = [predicted_queries @ predicted_pool.T, *(channels[0][name] @ channels[1][name].T for name in CHANNELS)]
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
    rankings = {
        "text": (predicted_queries, scores),
        "exact": (query.exact, _summed(weights, [query.exact @ predicted_pool.T, *parts[1:]])),
    }
    encoder.trust = {
        kind: Trust.fit(encoder.head.vectors(coordinates, channels[0]), spearman_rows(truth, ranking))
        for kind, (coordinates, ranking) in rankings.items()
    }


def _as_saved(projector: NDArray[Any]) -> Floats:
    """The projector as a saved encoder has it, rounded to half precision."""
    return np.asarray(projector.astype(np.float16), np.float32)


def _summed(weights: Floats, parts: Sequence[Floats]) -> Floats:
    return np.asarray(sum(weight * part for weight, part in zip(weights, parts, strict=True)), np.float32)
