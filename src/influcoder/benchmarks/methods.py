"""Every method of a benchmark as scores with their cost: teachers, students, baselines."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from influcoder.atomic import atomic_write
from influcoder.baselines import Scorer, Scores
from influcoder.decoder import Decoder
from influcoder.distill import ClosedFormRecipe, Sample, backbone_of, distil_static, expected_embeddings
from influcoder.evaluation import EncoderScorer, ExactQueryScorer, Surface
from influcoder.examples import Example
from influcoder.teachers import Checkpoint, Teacher, TeacherSettings, make_teacher

Sides = tuple[Sequence[Example], Sequence[Example]]


@dataclass(frozen=True, slots=True)
class World:
    """What is trained on and asked, and what students may learn from.

    Attributes:
        pool, queries: what is scored.
        kinds: of each query, a word; agreement is shown for each.
        train, validation: (queries, pool) of the splits that students learn from; no students when None.
    """

    pool: Sequence[Example]
    queries: Sequence[Example]
    kinds: Sequence[str]
    train: Sides | None = None
    validation: Sides | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A method's scores of one seed, (n_queries, n_pool), and their cost."""

    scores: Scores
    seconds: float
    bytes_per_example: int


def of_teacher(decoder: Decoder, name: str, checkpoints: Sequence[Checkpoint], world: World, seed: int) -> Scored:
    """A named teacher's scores; the time is that of the features, without what is learnt once."""
    teacher = make_teacher(decoder, TeacherSettings.named(name, seed=seed), checkpoints=checkpoints)
    teacher.fit(world.pool, world.queries)
    began = time.perf_counter()
    sides = teacher.features(world.queries, "query").vectors, teacher.features(world.pool, "pool").vectors
    return Scored(sides[0] @ sides[1].T, time.perf_counter() - began, teacher.bytes_per_example)


def of_scorer(scorer: Scorer, world: World) -> Scored:
    """A scorer's scores."""
    began = time.perf_counter()
    scores = scorer.score(world.queries, world.pool)
    return Scored(np.asarray(scores), time.perf_counter() - began, scorer.bytes_per_example)


class Students:
    """Students of a teacher, learnt from the world's training split when the first of them is asked for."""

    names = ("influcoder", "influcoder-exact-query", "surface")

    def __init__(self, teacher: Teacher, train: Sides, validation: Sides, seed: int) -> None:
        self._teacher = teacher
        self._splits = train, validation
        self._seed = seed
        self._made: dict[str, Scorer] = {}

    def __call__(self, name: str, world: World) -> Scored:
        """The scores of one of `names`."""
        if not self._made:
            self._learn()
        return of_scorer(self._made[name], world)

    def _learn(self) -> None:
        train, validation = (
            Sample(q, x, self._teacher.features(q, "query").vectors, self._teacher.features(x, "pool").vectors)
            for q, x in self._splits
        )
        decoder, recipe = self._teacher.decoder, ClosedFormRecipe(seed=self._seed)
        encoder = distil_static(backbone_of(decoder), train, validation, recipe, expected=expected_embeddings(decoder))
        scorers: list[Scorer] = [
            EncoderScorer("influcoder", encoder),
            ExactQueryScorer(encoder, self._teacher),
            Surface(encoder).fit(train, validation),
        ]
        self._made = {scorer.name: scorer for scorer in scorers}


def kept(path: Path, make: Callable[[], Scored]) -> Scored:
    """What `make` gives, kept in a file beside `path` so that a killed run need not make it again."""
    file = path.with_suffix(".safetensors")
    if not file.exists():
        made = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        facts = np.array([made.seconds, made.bytes_per_example])
        atomic_write(
            file, safetensors.numpy.save({"scores": np.ascontiguousarray(made.scores, np.float32), "facts": facts})
        )
    read = safetensors.numpy.load_file(file)
    return Scored(read["scores"], float(read["facts"][0]), int(read["facts"][1]))


def kept_scores(path: Path, make: Callable[[], Scores]) -> Scores:
    """The same for scores whose cost is of no interest."""
    return kept(path, lambda: Scored(make(), 0.0, 0)).scores
