"""`influcoder benchmark causal`: which method's scores say what training really does?

A decoder is fine-tuned on a pool, with checkpoints, once a seed. Every method scores every pool row for every
query on that model, and is held against two things that no attribution method has computed: the losses after
retraining on random halves of the pool (LDS), and the losses after a single SGD step on one row.

Students and fitted baselines learn from the world's training split, whose rows are in neither pool nor queries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.baselines import Bm25, Random, Tfidf
from influcoder.benchmarks.methods import Scored, Students, World, kept, kept_scores, of_scorer, of_teacher
from influcoder.benchmarks.proxy import first_layers
from influcoder.causal import (
    draw_subsets,
    interval,
    lds,
    one_step,
    pooled_step_agreement,
    retrained_losses,
    step_agreement,
)
from influcoder.decoder import Decoder
from influcoder.errors import ConfigError
from influcoder.evaluation import count_overlap
from influcoder.finetune import FinetuneSettings, finetune
from influcoder.metrics import spearman_rows
from influcoder.progress import progress
from influcoder.teachers import TEACHERS, Checkpoint, TeacherSettings, make_teacher

RETRAINING_SEED = 1000
NEED_CHECKPOINTS = ("tracin", "less")
NOT_HERE = {"adapter": "the decoder is fine-tuned whole; this teacher is of a LoRA adapter"}


@dataclass(frozen=True, slots=True)
class CausalSettings:
    """How much is trained and measured.

    Attributes:
        seeds: models, each with its own data order, projections and students.
        subsets: halves of the pool that are retrained on; a third of them twice, for the ceiling.
        stepped: pool rows that a single step is taken on.
        finetune: how models are trained.
    """

    seeds: int = 3
    subsets: int = 60
    stepped: int = 48
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("subsets", 2), ("stepped", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least {least}.")


@dataclass(frozen=True, slots=True)
class Retrained:
    """What training on parts of the pool did: (n, size) subsets, (n, n_queries) losses, and how well they repeat."""

    subsets: NDArray[np.int64]
    losses: NDArray[np.float32]
    ceiling: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """A method on the model of one seed: its scores, and each query's agreement with what training did."""

    scored: Scored
    lds: NDArray[Any]
    step: NDArray[Any]
    pooled_step: float


def causal(base: Decoder, world: World, folder: Path, settings: CausalSettings) -> dict[str, Any]:
    """Run the benchmark in `folder`, which the caller has claimed; a killed run goes on where it stopped."""
    overlap = count_overlap(world.queries, world.pool, *(world.train or ()), *(world.validation or ()))
    truth = _retrained(base, world, folder, settings)
    found: list[dict[str, Judged]] = []
    for seed in range(settings.seeds):
        place = folder / f"seed-{seed}"
        model, checkpoints = _trained(base, world, place / "model", replace(settings.finetune, seed=seed))
        scored = _all_methods(base, model, checkpoints, world, place, settings, seed)
        found.append(_judged(scored, truth, model, world, place, settings))
    kinds = np.array(world.kinds)
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "splits": {
            "pool": len(world.pool),
            "queries": len(world.queries),
            "subsets": len(truth.subsets),
            "overlap": overlap,
        },
        "lds_ceiling": _by_kind([truth.ceiling], kinds),
        "methods": {name: _summary(name, found, world, kinds) for name in found[0]},
        "skipped": NOT_HERE,
    }


def _retrained(base: Decoder, world: World, folder: Path, settings: CausalSettings) -> Retrained:
    subsets = draw_subsets(len(world.pool), settings.subsets, seed=0)
    again = subsets[: max(2, settings.subsets // 3)]
    losses, repeated = (
        retrained_losses(
            base, world.pool, world.queries, part, replace(settings.finetune, seed=RETRAINING_SEED + number), place
        )
        for number, (part, place) in enumerate(
            ((subsets, folder / "retrained"), (again, folder / "retrained-again")),
        )
    )
    return Retrained(subsets, losses, spearman_rows(losses[: len(again)].T, repeated.T))


def _judged(
    scored: dict[str, Scored], truth: Retrained, model: Decoder, world: World, folder: Path, settings: CausalSettings
) -> dict[str, Judged]:
    stepped = np.sort(np.random.default_rng(0).permutation(len(world.pool))[: settings.stepped])
    rows = [world.pool[row] for row in stepped]
    changes = kept_scores(folder / f"one-step-{len(rows)}", partial(one_step, model, rows, world.queries))
    return {
        name: Judged(
            one,
            lds(one.scores, truth.subsets, truth.losses),
            step_agreement(one.scores[:, stepped], changes),
            pooled_step_agreement(one.scores[:, stepped], changes),
        )
        for name, one in scored.items()
    }


def _summary(name: str, found: Sequence[dict[str, Judged]], world: World, kinds: NDArray[Any]) -> dict[str, Any]:
    mine = [judged[name] for judged in found]
    return {
        "lds": _by_kind([one.lds for one in mine], kinds),
        "one_step": _by_kind([one.step for one in mine], kinds),
        "one_step_pooled": float(np.mean([one.pooled_step for one in mine])),
        "examples_per_second": _speed(world, [one.scored for one in mine]),
        "bytes_per_example": mine[0].scored.bytes_per_example,
        "rho_to": {
            other: float(np.mean([spearman_rows(j[name].scored.scores, j[other].scored.scores).mean() for j in found]))
            for other in found[0]
        },
    }


def _trained(base: Decoder, world: World, folder: Path, settings: FinetuneSettings) -> tuple[Decoder, list[Checkpoint]]:
    """The model of a seed and the checkpoints of its training, from disk when it is there."""
    done = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    if len(done) < settings.epochs:
        finetune(base, world.pool, settings, checkpoints=folder)
        done = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    length = base.max_length
    return Decoder.load(done[-1], max_length=length), Checkpoint.read(done, max_length=length)


def _all_methods(
    base: Decoder,
    model: Decoder,
    checkpoints: Sequence[Checkpoint],
    world: World,
    folder: Path,
    settings: CausalSettings,
    seed: int,
) -> dict[str, Scored]:
    names = [name for name in TEACHERS if name not in NOT_HERE]
    makers: dict[str, Callable[[], Scored]] = {
        name: partial(of_teacher, model, name, checkpoints if name in NEED_CHECKPOINTS else (), world, seed)
        for name in names
    }
    makers["proxy"] = partial(_of_proxy, base, world, settings, seed)
    makers |= {scorer.name: partial(of_scorer, scorer, world) for scorer in (Tfidf(), Bm25(), Random(seed))}
    if world.train and world.validation:
        students = Students(make_teacher(model, TeacherSettings(seed=seed)), world.train, world.validation, seed)
        makers |= {name: partial(students, name, world) for name in students.names}
    found = {}
    with progress(f"methods, seed {seed}", len(makers)) as advance:
        for name, make in makers.items():
            found[name] = kept(folder / "scores" / name.replace("+", "-plus"), make)
            advance(1)
    return found


def _of_proxy(base: Decoder, world: World, settings: CausalSettings, seed: int) -> Scored:
    """The paper's teacher on a decoder of half the depth, fine-tuned on the same pool."""
    small = finetune(first_layers(base), world.pool, replace(settings.finetune, seed=seed))
    return of_teacher(small, "gradient-cosine", (), world, seed)


def _by_kind(rows: Sequence[NDArray[Any]], kinds: NDArray[Any]) -> dict[str, Any]:
    """Means over seeds and queries with 95 % intervals over queries, for all and for each kind."""
    mean = np.mean(rows, axis=0)
    groups = {"all": np.ones(len(kinds), bool)} | {kind: kinds == kind for kind in sorted(set(kinds.tolist()))}
    return {
        name: {
            "mean": float(mean[chosen].mean()),
            "interval_95": list(interval(mean[chosen])),
            "seeds": [float(one[chosen].mean()) for one in rows],
        }
        for name, chosen in groups.items()
    }


def _speed(world: World, scored: Sequence[Scored]) -> float:
    return (len(world.pool) + len(world.queries)) / max(float(np.median([one.seconds for one in scored])), 1e-9)
