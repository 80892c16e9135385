"""What methods are made from: a seed's trained model with its problem, and parts that are each made once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.problem import NOTHING, Problem, Split
from influcoder.benchmarks.methods.cost import Parts
from influcoder.benchmarks.settings import EXACT
from influcoder.data.columns import data_fingerprint
from influcoder.data.examples import Example
from influcoder.evaluation.methods import Need
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings
from influcoder.student.backbone import sentence_transformer
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import ClosedFormRecipe, distill_student
from influcoder.student.effort import BY_TIER
from influcoder.student.encoder import DECODER_TIERS, InfluenceEncoder
from influcoder.student.paper import PaperRecipe, distill_paper
from influcoder.student.sample import Sample
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.teacher import Teacher

TIERS = ("static", *DECODER_TIERS)
PSEUDO = "static-from-short"
"""the static tier that learns from the short tier's pseudo-labels as well"""
NEED_CHECKPOINTS = ("tracin", "less")
SECOND_SEED = 1000
"""added to a teacher's seed for the teacher that it is compared with"""


@dataclass
class Bench:
    """A seed's trained model with its problem, and the parts that methods are made from, each made once.

    Attributes:
        base: the decoder before it was trained.
        model: the decoder that is attributed.
        problem: what is scored, and what students may learn from.
        folder: where costly parts are kept.
        seed: of everything random.
        trained_on, checkpoints: the rows that the model was trained on, and the checkpoints of that training.
        tuning: how decoders are trained, rivals' among them.
        backbone: a Sentence Transformers folder or hub id, for the paper's recipe and the untrained encoder.
        paper_epochs: epochs of the paper's recipe.
        taught_by: the teacher that students learn from.
    """

    base: Decoder
    model: Decoder
    problem: Problem
    folder: Path
    seed: int = 0
    trained_on: Sequence[Example] = ()
    checkpoints: Sequence[Checkpoint] = ()
    tuning: FinetuneSettings = field(default_factory=FinetuneSettings)
    backbone: str | None = None
    paper_epochs: int = 8
    taught_by: str = EXACT
    parts: Parts = field(default_factory=Parts)

    def teacher(self, name: str | None = None) -> Teacher:
        """A named teacher of the model, the students' by default, fitted to the problem."""
        named = name or self.taught_by
        return self.parts.get(f"teacher {named}", lambda: self._fitted(TeacherSettings.named(named, seed=self.seed)))

    def second_teacher(self) -> Teacher:
        """The students' teacher with another seed."""
        return self._fitted(TeacherSettings.named(self.taught_by, seed=self.seed + SECOND_SEED))

    def samples(self, teacher: str | None = None) -> tuple[Sample, Sample]:
        """(train, validation) with the features of a named teacher, the students' by default."""
        named = teacher or self.taught_by

        def make() -> tuple[Sample, Sample]:
            return self._sample(self.problem.train, named), self._sample(self.problem.validation, named)

        return self.parts.get(f"samples {named}", make)

    def all_samples(self, teacher: str | None = None) -> Sample:
        """Train and validation as one, for methods that choose nothing."""
        train, validation = self.samples(teacher)
        return Sample(
            [*train.queries, *validation.queries],
            [*train.pool, *validation.pool],
            np.concatenate([train.query_features, validation.query_features]),
            np.concatenate([train.pool_features, validation.pool_features]),
        )

    def student(self, tier: str) -> InfluenceEncoder:
        """Our student: one of `TIERS`, or `PSEUDO`, which alone learns from unlabelled examples."""
        return self.parts.get(tier, lambda: self._student(tier))

    def paper_student(self) -> InfluenceEncoder:
        """The backbone trained by the paper's recipe, on the paper's teacher."""
        sample, recipe = self.all_samples(EXACT), PaperRecipe(seed=self.seed, epochs=self.paper_epochs)
        return distill_paper(self.untrained().backbone, sample.queries, sample.pool, sample.influence, recipe)

    def reader(self) -> InfluenceEncoder:
        """What our static tier reads of a text, before it learns anything."""

        def make() -> InfluenceEncoder:
            settings = {"reading": ClosedFormRecipe(seed=self.seed).reading(), "tier": "static"}
            return InfluenceEncoder(backbone_of(self.model), None, expected=self._expected(), settings=settings)

        return self.parts.get("reader", make)

    def read(self, examples: Sequence[Example]) -> Floats:
        """The same features side by side, (n, F)."""
        return np.concatenate(list(self.reader().features(examples, "pool").values()), axis=1)

    def untrained(self) -> InfluenceEncoder:
        """The backbone before any training; it reads no more tokens of a text than the decoder does."""
        encoder = sentence_transformer(self.backbone)
        encoder.max_seq_length = min(encoder.max_seq_length or self.model.max_length, self.model.max_length)
        return InfluenceEncoder(encoder, None)

    def lacks(self, need: Need) -> bool:
        """Whether methods with a need cannot be made here."""
        has = {
            "backbone": self.backbone is not None,
            "training": any(self.problem.train),
            "unlabelled": any(self.problem.unlabelled),
        }
        return not has.get(need)

    @property
    def fitted_on(self) -> Split:
        """What teachers that learn from a sample are fitted on."""
        return Split(self.problem.queries, self.problem.pool)

    @property
    def made_by(self) -> dict[str, Any]:
        """Everything that changes the scores."""
        settings = ("seed", "backbone", "paper_epochs", "taught_by")
        sides = self.problem.sides() | {"trained on": self.trained_on}
        return (
            {name: getattr(self, name) for name in settings}
            | {"tuning": asdict(self.tuning)}
            | asdict(self.model.fingerprint)
            | {name: data_fingerprint(side) for name, side in sides.items()}
        )

    def _fitted(self, settings: TeacherSettings) -> Teacher:
        checkpoints = self.checkpoints if settings.name in NEED_CHECKPOINTS else ()
        teacher = make_teacher(self.model, settings, checkpoints=checkpoints)
        teacher.fit(self.fitted_on.pool, self.fitted_on.queries)
        return teacher

    def _sample(self, split: Split, teacher: str) -> Sample:
        features = (
            self.teacher(teacher).features(split.queries, "query").vectors,
            self.teacher(teacher).features(split.pool, "pool").vectors,
        )
        return Sample(*split, *features)

    def _student(self, tier: str) -> InfluenceEncoder:
        return distill_student(
            BY_TIER["static" if tier == PSEUDO else tier],
            backbone_of(self.model),
            *self.samples(),
            ClosedFormRecipe(seed=self.seed),
            expected=self._expected(),
            decoder=self.model,
            teacher=self.teacher(),
            unlabelled=self.problem.unlabelled if tier == PSEUDO else NOTHING,
        )

    def _expected(self) -> Mapping[str, Floats]:
        return self.parts.get("expected", lambda: expected_embeddings(self.model))
