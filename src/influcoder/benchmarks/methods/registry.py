"""Every method of a benchmark by name, as scores with their cost: words, teachers, rivals, students.

`METHODS` is the one list that every task draws from. A method is a scorer made from a `Bench`: a trained model of
one seed with its world. What making it takes is its learning time; what scoring takes is its scoring time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import safetensors.numpy

from influcoder.benchmarks.methods.airrep import GroupStudent
from influcoder.benchmarks.methods.bench import EXACT, PSEUDO, Bench, World
from influcoder.benchmarks.methods.cost import memory_taken
from influcoder.benchmarks.methods.rivals import (
    Cascade,
    PointwiseRegressor,
    Reading,
    first_layers,
    with_shuffled_weights,
)
from influcoder.errors import ConfigError, some_of
from influcoder.evaluation.scorers import (
    Bm25,
    EncoderScorer,
    ExactQueryScorer,
    Random,
    Scorer,
    Scores,
    Surface,
    TeacherScorer,
    Tfidf,
)
from influcoder.model.finetune import finetune
from influcoder.progress import progress
from influcoder.provenance import refuse_difference
from influcoder.store.files import atomic_write, write_json
from influcoder.student.encoder import DECODER_TIERS
from influcoder.student.paper import PaperRecipe, distill_paper
from influcoder.student.sample import Sample
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TEACHERS, TeacherSettings
from influcoder.version import __version__

__all__ = [
    "METHODS",
    "TASK_METHODS",
    "Bench",
    "Scored",
    "World",
    "all_methods",
    "chosen",
    "kept",
    "left_out",
    "of_scorer",
    "refuse_other_run",
]
SHUFFLED = "randomised"
"""the exact teacher on shuffled weights: sanity checks hold the two against each other"""


@dataclass(frozen=True, slots=True)
class Scored:
    """A method's scores of one seed, (n_queries, n_pool), and their cost.

    Attributes:
        seconds: of scoring all queries and pool examples.
        bytes_per_example: what a pool example takes on disk.
        learning_seconds: of everything that was learnt first.
        memory_mb: by how much the process grew while scoring.
    """

    scores: Scores
    seconds: float
    bytes_per_example: int
    learning_seconds: float = 0.0
    memory_mb: float = 0.0


def _teacher(name: str, bench: Bench) -> Scorer:
    return TeacherScorer(bench.teacher(name), name)


def _proxy(bench: Bench) -> Scorer:
    """The paper's teacher on a decoder of half the depth, trained on the same rows."""
    small = finetune(first_layers(bench.base), bench.trained_on, bench.tuning)
    return TeacherScorer(make_teacher(small, TeacherSettings(seed=bench.seed)), "proxy")


def _shuffled(bench: Bench) -> Scorer:
    return TeacherScorer(
        make_teacher(with_shuffled_weights(bench.model, bench.seed), TeacherSettings(seed=bench.seed)), SHUFFLED
    )


def _paper(bench: Bench) -> Scorer:
    train, validation = bench.samples(EXACT)
    queries, pool = [*train.queries, *validation.queries], [*train.pool, *validation.pool]
    whole = Sample(
        queries,
        pool,
        np.concatenate([train.query_features, validation.query_features]),
        np.concatenate([train.pool_features, validation.pool_features]),
    )
    recipe = PaperRecipe(seed=bench.seed, epochs=bench.epochs)
    return EncoderScorer(
        "paper-recipe", distill_paper(bench.untrained().backbone, queries, pool, whole.influence, recipe)
    )


def _groups(bench: Bench) -> Scorer:
    train, validation = bench.samples()
    queries, pool = [*train.queries, *validation.queries], [*train.pool, *validation.pool]
    read: Reading = bench.read
    once = replace(bench.tuning, epochs=1, rows_a_step=8)
    return GroupStudent(read, bench.seed).fit(bench.base, queries, pool, bench.folder / "groups", once)


def _tier(tier: str, bench: Bench) -> Scorer:
    return EncoderScorer(f"influcoder-{tier}", bench.student(tier))


def _tier_exact_query(tier: str, bench: Bench) -> Scorer:
    return ExactQueryScorer(bench.student(tier), bench.teacher(), f"influcoder-{tier}-exact-query")


OTHER_TIERS = (PSEUDO, *DECODER_TIERS)
Maker = Callable[[Bench], Scorer]
METHODS: dict[str, Maker] = {
    "random": lambda bench: Random(bench.seed),
    "tfidf": lambda bench: Tfidf(),
    "bm25": lambda bench: Bm25(),
    **{name: partial(_teacher, name) for name in TEACHERS if name != "adapter"},
    "proxy": _proxy,
    SHUFFLED: _shuffled,
    "untrained": lambda bench: EncoderScorer("untrained", bench.untrained()),
    "paper-recipe": _paper,
    "airrep": _groups,
    "mates": lambda bench: PointwiseRegressor(bench.read, bench.teacher(), bench.world.queries).fit(*bench.samples()),
    "surface": lambda bench: Surface(bench.reader()).fit(*bench.samples()),
    "influcoder": lambda bench: EncoderScorer("influcoder", bench.student("static")),
    "influcoder-exact-query": lambda bench: ExactQueryScorer(bench.student("static"), bench.teacher()),
    **{f"influcoder-{tier}": partial(_tier, tier) for tier in OTHER_TIERS},
    **{f"influcoder-{tier}-exact-query": partial(_tier_exact_query, tier) for tier in OTHER_TIERS},
    "cascade": lambda bench: Cascade(bench.student("static"), bench.teacher(), together=bench.world.together),
}
"""name: how it is made"""

TASK_METHODS = tuple(name for name in METHODS if name not in ("tracin", "logra-raw", "rrinf"))
"""what the tasks compare: all but three that the causal benchmark holds beside their kin"""

ALWAYS = ("random", EXACT, SHUFFLED)
"""what gains, costs and sanity checks are held against"""

LEARNERS = (
    "paper-recipe",
    "airrep",
    "mates",
    "surface",
    *(name for name in METHODS if name.startswith("influcoder")),
    "cascade",
)
"""methods that learn from a training split"""


def chosen(names: Sequence[str] | None, teacher: str = EXACT) -> tuple[str, ...]:
    """The methods that are asked for, `TASK_METHODS` when None; and what they are held against or made from.

    Raises:
        ConfigError: there is no such method or teacher, or the teacher is of an adapter, which no benchmark trains.

    >>> chosen(["tfidf"])
    ('random', 'tfidf', 'gradient-cosine', 'randomised')
    >>> chosen(["cascade"])
    ('random', 'gradient-cosine', 'randomised', 'influcoder', 'cascade')
    """
    unknown = [name for name in names or () if name not in METHODS]
    if unknown:
        raise ConfigError(f"methods: {some_of(unknown)}, expected some of {', '.join(METHODS)}.")
    if TeacherSettings.named(teacher).source == "adapter":
        raise ConfigError(f"teacher is {teacher}, but benchmarks fine-tune the decoder whole. Name another one.")
    needed = {*ALWAYS, teacher, *(TASK_METHODS if names is None else names)}
    needed |= {"influcoder"} if "cascade" in needed else set()
    return tuple(name for name in METHODS if name in needed)


def left_out(bench: Bench) -> dict[str, str]:
    """The methods that this bench cannot have, each with the reason."""
    reasons = {"adapter": "the decoder is fine-tuned whole; this teacher is of a LoRA adapter"}
    if bench.world.train is None or bench.world.validation is None:
        reasons |= dict.fromkeys(LEARNERS, "there is no training split to learn from")
    elif not any(bench.world.unlabelled):
        pseudo = (name for name in LEARNERS if name.startswith(f"influcoder-{PSEUDO}"))
        reasons |= dict.fromkeys(pseudo, "there is no unlabelled text to learn from")
    if bench.backbone is None:
        reasons |= dict.fromkeys(("paper-recipe", "untrained"), "no --backbone was given")
    return reasons


def all_methods(bench: Bench, wanted: Sequence[str] | None = None) -> dict[str, Scored]:
    """The scores with their cost of every method, or those wanted; kept in the bench's folder as they are made.

    Raises:
        StoreMismatch: the folder was begun with another model, other examples or other settings.
    """
    refuse_other_run(bench.folder / "made_by.json", bench.made_by)
    names = [name for name in wanted or METHODS if name not in left_out(bench)]
    found = {}
    with progress(f"methods, seed {bench.seed}", len(names)) as advance:
        for name in names:
            place = bench.folder / "scores" / name.replace("+", "-plus")
            found[name] = kept(place, partial(_scored, METHODS[name], bench))
            advance(1)
    return found


def refuse_other_run(path: Path, made_by: Mapping[str, Any]) -> None:
    """Keep what everything in a folder was made by; its numbers are of one version and of one setting.

    Raises:
        StoreMismatch: an earlier run of other settings, or of another version, began there.
    """
    now = orjson.loads(orjson.dumps({"package": __version__, **made_by}))
    if path.exists():
        refuse_difference(f"{path}: begun by another run", orjson.loads(path.read_bytes()), now)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, now)


def _scored(make: Maker, bench: Bench) -> Scored:
    scorer, learning = bench.parts.cost_of(lambda: make(bench))
    queries, pool = bench.world.queries, bench.world.pool
    scorer.score(queries[:1], pool[:2])  # the first call loads tables and kernels
    with memory_taken() as taken:
        scored = of_scorer(scorer, bench.world)
        return Scored(scored.scores, scored.seconds, scored.bytes_per_example, learning, taken())


def of_scorer(scorer: Scorer, world: World) -> Scored:
    """A scorer's scores."""
    began = time.perf_counter()
    scores = scorer.score(world.queries, world.pool)
    return Scored(np.asarray(scores), time.perf_counter() - began, scorer.bytes_per_example)


def kept(path: Path, make: Callable[[], Scored]) -> Scored:
    """What `make` gives, kept in a file beside `path` so that a killed run need not make it again."""
    file = path.with_suffix(".safetensors")
    if not file.exists():
        made = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        facts = np.array([made.seconds, made.bytes_per_example, made.learning_seconds, made.memory_mb])
        atomic_write(
            file, safetensors.numpy.save({"scores": np.ascontiguousarray(made.scores, np.float32), "facts": facts})
        )
    read = safetensors.numpy.load_file(file)
    seconds, size, *rest = map(float, read["facts"])
    return Scored(read["scores"], seconds, int(size), *rest)


def kept_scores(path: Path, make: Callable[[], Scores]) -> Scores:
    """The same for scores whose cost is of no interest."""
    return kept(path, lambda: Scored(make(), 0.0, 0)).scores
