"""`influcoder benchmark causal`: which method's scores say what training really does?

A decoder is fine-tuned on a pool, with checkpoints, once a seed. Every method scores every pool row for every
query on that model, and is held against two things that no attribution method has computed: the losses after
retraining on random halves of the pool (LDS), and the losses after a single SGD step on one row.

Students and fitted baselines learn from the world's training split, whose rows are in neither pool nor queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.benchmarks.methods.bench import EXACT, Bench, World
from influcoder.benchmarks.methods.registry import METHODS, Scored, all_methods, kept_scores, left_out
from influcoder.benchmarks.methods.trained import trained
from influcoder.benchmarks.results.audit import audit
from influcoder.benchmarks.results.sanity import mean_sanity, sanity_of
from influcoder.errors import ConfigError
from influcoder.evaluation.retraining import (
    draw_subsets,
    interval,
    lds,
    one_step,
    pooled_step_agreement,
    retrained_losses,
    step_agreement,
)
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings

RETRAINING_SEED = 1000


@dataclass(frozen=True, slots=True)
class CausalSettings:
    """How much is trained and measured.

    Attributes:
        seeds: models, each with its own data order, projections and students.
        subsets: halves of the pool that are retrained on; a third of them twice, for the ceiling.
        stepped: pool rows that a single step is taken on.
        finetune: how models are trained.
        methods: that are compared.
        teacher: that students learn from.
    """

    seeds: int = 3
    subsets: int = 60
    stepped: int = 48
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    methods: tuple[str, ...] = tuple(METHODS)
    teacher: str = EXACT

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
    leaks = audit(world.sides())
    truth = _retrained(base, world, folder, settings)
    found: list[dict[str, Judged]] = []
    checks = []
    for seed in range(settings.seeds):
        place, tuning = folder / f"seed-{seed}", replace(settings.finetune, seed=seed)
        model, checkpoints = trained(base, world.pool, place / "model", tuning)
        taught_by = settings.teacher
        bench = Bench(base, model, checkpoints, world.pool, world, place, tuning, seed, taught_by=taught_by)
        scored = all_methods(bench, settings.methods)
        checks.append(sanity_of(scored, world))
        found.append(_judged(scored, truth, model, world, place, settings))
    kinds = np.array(world.kinds)
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "splits": {
            "pool": len(world.pool),
            "queries": len(world.queries),
            "subsets": len(truth.subsets),
            "overlap": leaks["overlap"],
        },
        "audit": leaks,
        "sanity": mean_sanity(checks),
        "lds_ceiling": _by_kind([truth.ceiling], kinds),
        "methods": {name: _summary(name, found, world, kinds) for name in found[0]},
        "skipped": left_out(bench),
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
        "learning_seconds": float(np.median([one.scored.learning_seconds for one in mine])),
        "memory_mb": max(one.scored.memory_mb for one in mine),
        "rho_to": {
            other: float(np.mean([spearman_rows(j[name].scored.scores, j[other].scored.scores).mean() for j in found]))
            for other in found[0]
        },
    }


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
