"""What the steps of the demo share, and what its methods are made from."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from influcoder.data.examples import Example, Role
from influcoder.demo.world import SPLITS, DemoWorld
from influcoder.evaluation.proof import FineTuning
from influcoder.indexes.index import Index
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings
from influcoder.progress import progress
from influcoder.report.demo_output import TRAINED
from influcoder.store.store import Store
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import ClosedFormRecipe, distill_student
from influcoder.student.effort import STATIC
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import read_features
from influcoder.student.paper import PaperRecipe, distill_paper, steps
from influcoder.student.sample import Sample
from influcoder.teachers.fitted import fitted
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.write import write_features

MAX_LENGTH = 512
TRAINING = FinetuneSettings(epochs=4, learning_rate=3e-3, rows_a_step=32, token_budget=1024)
# Of the teachers tried, words and surfaces predict the ranking of this one least (docs/decisions/0025-*.md).
TEACHER = TeacherSettings.named("centred-cosine", width=16384)
SIDES: dict[str, Role] = {"queries": "query", "pool": "pool"}
# A static table needs larger steps than a transformer; the paper's 5e-5 hardly moves it.
PAPER_ON_STATIC = PaperRecipe(learning_rate=1e-2)


@dataclass(frozen=True)
class KeptFineTuning(FineTuning):
    """Fine-tuning that saves the model which has seen the whole pool, for the questions."""

    folder: Path

    def train(self, removed: Collection[int], seed: int, name: str, advance: Callable[[int], None]) -> Decoder:
        model = super().train(removed, seed, name, advance)
        if not removed:
            model.save(self.folder)
        return model


@dataclass
class Demo:
    """A run of the demo, in parts that are each made at their first use.

    Attributes:
        base: the packaged decoder, which has not seen the pool. The teacher takes its gradients there, where the model
            can still learn from every row.
        verified: how many of the encoder's best rows the teacher re-scores.
        reported: questions whose rows the report shows, re-checked and token by token.
    """

    folder: Path
    seed: int
    world: DemoWorld
    base: Decoder
    training: FinetuneSettings
    exact: GradientTeacher
    verified: int = 50
    reported: int = 2
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.timings[step] = round(time.perf_counter() - began, 2)

    def examples(self, side: str, split: str, kind: str | None = None) -> list[Example]:
        return [getattr(self.world, side)[row] for row in self.world.rows(side, split=split, kind=kind)]

    @property
    def questions(self) -> list[Example]:
        """The test questions whose wrong answer the pool plants."""
        return self.examples("queries", "test", "wrong")

    @cached_property
    def trainer(self) -> FineTuning:
        """What trains the base on rows of the pool."""
        return KeptFineTuning(self.base, self.world.pool, self.training, self.folder / TRAINED)

    @cached_property
    def splits(self) -> dict[str, Sample]:
        """The samples of every split."""
        rows = {split: [self.world.rows(side, split=split) for side in SIDES] for split in SPLITS}
        return {split: self.all_samples.rows(*sides) for split, sides in rows.items()}

    @cached_property
    def all_samples(self) -> Sample:
        """All queries and rows, with their features."""
        features, folder = {}, self.folder / "features"
        folder.mkdir(exist_ok=True)
        with self.timed("curvature"):
            fitted(self.exact, self.examples("pool", "train"), self.examples("queries", "train"), folder)
        for side, role in SIDES.items():
            with self.timed(f"{side} gradients"):
                write_features(self.exact, getattr(self.world, side), role, folder / side)
            features[side] = read_features(Store(folder / side))[1]
        return Sample(self.world.queries, self.world.pool, features["queries"], features["pool"])

    @cached_property
    def encoder(self) -> InfluenceEncoder:
        """The student, saved."""
        samples = self.samples()
        with self.timed("distill"):
            encoder = distill_student(
                STATIC,
                backbone_of(self.base),
                *samples,
                ClosedFormRecipe(seed=self.seed),
                expected=expected_embeddings(self.base),
                provenance=self.exact.provenance,
            )
            encoder.teacher_state = {name: tensor.numpy() for name, tensor in self.exact.state().items()}
            encoder.save(self.folder / "encoder")
        return encoder

    @cached_property
    def index(self) -> Index:
        """The encoder's vectors of the whole pool, saved."""
        encoder = self.encoder
        with self.timed("index"):
            return Index.build(encoder, self.world.pool, self.folder / "index")

    def teacher(self) -> GradientTeacher:
        return self.exact

    def second_teacher(self) -> GradientTeacher:
        teacher = GradientTeacher(self.base, replace(self.exact.settings, seed=self.seed + 1))
        with self.timed("curvature"):
            teacher.fit(self.examples("pool", "train"), self.examples("queries", "train"))
        return teacher

    def samples(self) -> tuple[Sample, Sample]:
        return self.splits["train"], self.splits["validation"]

    def student(self, tier: str) -> InfluenceEncoder:
        return self.encoder

    def reader(self) -> InfluenceEncoder:
        return self.encoder

    def untrained(self) -> InfluenceEncoder:
        return InfluenceEncoder(backbone_of(self.base), None)

    def paper_student(self) -> InfluenceEncoder:
        train, recipe = self.splits["train"], replace(PAPER_ON_STATIC, seed=self.seed)
        texts = train.queries, train.pool
        with progress("the paper's recipe", steps(len(train.queries), len(train.pool), recipe)) as advance:
            return distill_paper(backbone_of(self.base), *texts, train.influence, recipe, advance=advance)
