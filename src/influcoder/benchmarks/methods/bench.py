"""What methods are made from: a trained model of one seed with its world, and its parts, each made once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.methods.cost import Parts
from influcoder.data.columns import data_fingerprint
from influcoder.data.examples import Example, Role
from influcoder.errors import ConfigError
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings
from influcoder.student.backbone import sentence_transformer
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.encoder import DECODER_TIERS, Floats, InfluenceEncoder
from influcoder.student.pseudo_labels import PseudoLabels
from influcoder.student.sample import Sample
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.teacher import Teacher

Sides = tuple[Sequence[Example], Sequence[Example]]
EXACT = "gradient-cosine"
"""the teacher that students learn from"""


@dataclass(frozen=True, slots=True)
class World:
    """What is scored and asked, and what students may learn from.

    Attributes:
        pool, queries: what is scored.
        kinds: of each query, a word; agreement is shown for each.
        train, validation: (queries, pool) of the splits that students learn from; no students when None.
        together: the queries are one question, answered by the mean over them.
        unlabelled: (queries, pool) that a slow student may label for a fast one; no gradient is taken of them.
    """

    pool: Sequence[Example]
    queries: Sequence[Example]
    kinds: Sequence[str]
    train: Sides | None = None
    validation: Sides | None = None
    together: bool = False
    unlabelled: Sides = ((), ())

    def sides(self) -> dict[str, Sequence[Example]]:
        """Every side by name, for the leak audit."""
        sides = {"pool": self.pool, "queries": self.queries}
        learnt_from = {"train": self.train, "validation": self.validation, "unlabelled": self.unlabelled}
        for name, split in learnt_from.items():
            if split is not None and any(split):
                sides |= {f"{name} queries": split[0], f"{name} pool": split[1]}
        return sides


@dataclass
class Bench:
    """A trained model of one seed with its world, and what methods are made from; each part is made once.

    Attributes:
        base: the decoder before it was trained.
        model: the decoder that is attributed.
        checkpoints: of its training.
        trained_on: the rows it was trained on.
        folder: where costly parts are kept.
        tuning: how decoders are trained, rivals' among them.
        backbone: a Sentence Transformers folder or hub id, for the paper's recipe and the untrained encoder.
        epochs: of the paper's recipe.
        taught_by: the teacher that students learn from.
    """

    base: Decoder
    model: Decoder
    checkpoints: Sequence[Checkpoint]
    trained_on: Sequence[Example]
    world: World
    folder: Path
    tuning: FinetuneSettings
    seed: int = 0
    backbone: str | None = None
    epochs: int = 8
    taught_by: str = EXACT
    parts: Parts = field(default_factory=Parts)

    def teacher(self, name: str | None = None) -> Teacher:
        """A named teacher of the model, or the students', fitted on the world."""
        named = name or self.taught_by

        def make() -> Teacher:
            checkpoints = self.checkpoints if named in NEED_CHECKPOINTS else ()
            teacher = make_teacher(self.model, TeacherSettings.named(named, seed=self.seed), checkpoints=checkpoints)
            teacher.fit(self.world.pool, self.world.queries)
            return teacher

        return self.parts.get(f"teacher {named}", make)

    def samples(self, teacher: str | None = None) -> tuple[Sample, Sample]:
        """The splits that students learn from, with the features of a named teacher, or of theirs."""
        named = teacher or self.taught_by

        def make() -> tuple[Sample, Sample]:
            return self._sample(self.world.train, named), self._sample(self.world.validation, named)

        return self.parts.get(f"samples {named}", make)

    def student(self, tier: str) -> InfluenceEncoder:
        """Our student of a tier, see `distilled`."""

        def make() -> InfluenceEncoder:
            return distilled(tier, self.teacher(), self.samples(), self.seed, self._expected(), self.world.unlabelled)

        return self.parts.get(tier, make)

    def reader(self) -> InfluenceEncoder:
        """What our static tier reads of a text, before anything is learnt."""

        def make() -> InfluenceEncoder:
            settings = {"reading": ClosedFormRecipe(seed=self.seed).reading(), "tier": "static"}
            return InfluenceEncoder(backbone_of(self.model), None, expected=self._expected(), settings=settings)

        return self.parts.get("reader", make)

    def read(self, examples: Sequence[Example]) -> Floats:
        """Those features side by side, (n, F)."""
        return np.concatenate(list(self.reader().features(examples, "pool").values()), axis=1)

    def untrained(self) -> InfluenceEncoder:
        """The backbone as it comes, of the texts' length that the decoder reads."""
        encoder = sentence_transformer(self.backbone)
        encoder.max_seq_length = min(encoder.max_seq_length or self.model.max_length, self.model.max_length)
        return InfluenceEncoder(encoder, None)

    @property
    def made_by(self) -> dict[str, Any]:
        """Everything that changes the scores."""
        sides = self.world.sides() | {"trained on": self.trained_on}
        rivals = {"seed": self.seed, "tuning": asdict(self.tuning), "backbone": self.backbone, "epochs": self.epochs}
        rivals["taught_by"] = self.taught_by
        return rivals | asdict(self.model.fingerprint) | {name: data_fingerprint(side) for name, side in sides.items()}

    def _sample(self, sides: Sides | None, teacher: str) -> Sample:
        if sides is None:
            raise ConfigError("this world has no training split to learn from. Leave the students out.")
        features = (self.teacher(teacher).features(part, role).vectors for part, role in zip(sides, ROLES, strict=True))
        return Sample(*sides, *features)

    def _expected(self) -> Mapping[str, Floats]:
        return self.parts.get("expected", lambda: expected_embeddings(self.model))


ROLES: tuple[Role, Role] = ("query", "pool")
NEED_CHECKPOINTS = ("tracin", "less")


TIERS = ("static", *DECODER_TIERS)
PSEUDO = "static-from-short"
"""the static tier that learns from the short tier's pseudo-labels as well"""


def distilled(
    tier: str,
    teacher: Teacher,
    samples: tuple[Sample, Sample],
    seed: int,
    expected: Mapping[str, Floats],
    unlabelled: tuple[Sequence[Example], Sequence[Example]],
) -> InfluenceEncoder:
    """One of `TIERS`, or `PSEUDO`, of a teacher's decoder.

    Args:
        samples: to train on and to choose by.
        expected: what the decoder expects after each token.
        unlabelled: queries and pool examples that a short tier labels, for `PSEUDO` alone.
    """
    backbone, recipe = backbone_of(teacher.decoder), ClosedFormRecipe(seed=seed)
    solve = partial(distill_static, backbone, *samples, recipe, expected=expected)
    return solve(
        forward=teacher.decoder if tier == "forward" else None,
        short=teacher if tier == "short" else None,
        pseudo=PseudoLabels.by(solve(short=teacher, refit=False), *unlabelled) if tier == PSEUDO else None,
    )
