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
from influcoder.evaluation import count_overlap
from influcoder.finetune import FinetuneSettings, finetune
from influcoder.metrics import spearman_rows
from influcoder.progress import progress
from influcoder.teachers import TEACHERS, Checkpoint, TeacherSettings, make_teacher
from influcoder.teachers.check import PROBE, reliability

NEED_CHECKPOINTS = ("tracin", "less")
NOT_HERE = {"adapter": "the decoder is fine-tuned whole; this teacher is of a LoRA adapter"}


@dataclass(frozen=True, slots=True)
class CausalSettings:
    """How much is trained and measured.

    Attributes:
        seeds: models, each with its own data order, projections and students.
        subsets: halves of the pool that are retrained on; a third of them twice, for the ceiling.
        stepped: pool rows that a single step is taken on.
        reliability: also measure how well each teacher agrees with itself.
        finetune: how models are trained.
    """

    seeds: int = 3
    subsets: int = 60
    stepped: int = 48
    reliability: bool = True
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)


def causal(base: Decoder, world: World, folder: Path, settings: CausalSettings) -> dict[str, Any]:
    """Run the benchmark in `folder`, which the caller has claimed; a killed run goes on where it stopped."""
    overlap = count_overlap(world.queries, world.pool, *(world.train or ()), *(world.validation or ()))
    subsets = draw_subsets(len(world.pool), settings.subsets, seed=0)
    retrain = replace(settings.finetune, seed=1000)
    losses = retrained_losses(base, world.pool, world.queries, subsets, retrain, folder / "retrained")
    again = subsets[: max(2, settings.subsets // 3)]
    repeated = retrained_losses(
        base, world.pool, world.queries, again, replace(retrain, seed=1001), folder / "retrained-again"
    )
    ceiling = spearman_rows(losses[: len(again)].T, repeated.T)
    found: list[dict[str, Scored]] = []
    rows: dict[str, dict[str, list[Any]]] = {}
    reliabilities: dict[str, Any] = {}
    stepped = np.sort(np.random.default_rng(0).permutation(len(world.pool))[: settings.stepped])
    rows_stepped = [world.pool[row] for row in stepped]
    for seed in range(settings.seeds):
        place = folder / f"seed-{seed}"
        model, checkpoints = _trained(base, world, place / "model", replace(settings.finetune, seed=seed))
        changes = kept_scores(place / "one-step", partial(one_step, model, rows_stepped, world.queries))
        scored = _all_methods(base, model, checkpoints, world, place, settings, seed)
        for name, one in scored.items():
            held = rows.setdefault(name, {"lds": [], "step": [], "pooled": []})
            held["lds"].append(lds(one.scores, subsets, losses))
            held["step"].append(step_agreement(one.scores[:, stepped], changes))
            held["pooled"].append(pooled_step_agreement(one.scores[:, stepped], changes))
        if seed == 0 and settings.reliability:
            reliabilities = _reliabilities(model, checkpoints, world, place)
        found.append(scored)
    kinds = np.array(world.kinds)
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "splits": {"pool": len(world.pool), "queries": len(world.queries), "subsets": len(subsets), "overlap": overlap},
        "lds_ceiling": _by_kind([ceiling], kinds),
        "methods": {
            name: {
                "lds": _by_kind(rows[name]["lds"], kinds),
                "one_step": _by_kind(rows[name]["step"], kinds),
                "one_step_pooled": float(np.mean(rows[name]["pooled"])),
                "reliability": reliabilities.get(name),
                "examples_per_second": _speed(world, [scored[name] for scored in found]),
                "bytes_per_example": found[0][name].bytes_per_example,
                "rho_to": {
                    other: float(np.mean([spearman_rows(s[name].scores, s[other].scores).mean() for s in found]))
                    for other in rows
                },
            }
            for name in rows
        },
        "skipped": NOT_HERE,
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


def _reliabilities(
    model: Decoder, checkpoints: Sequence[Checkpoint], world: World, folder: Path
) -> dict[str, dict[str, float | None]]:
    rng = np.random.default_rng(0)
    queries, pool = (
        [side[row] for row in np.sort(rng.permutation(len(side))[:size])]
        for side, size in ((world.queries, PROBE), (world.pool, 3 * PROBE))
    )
    names = [name for name in TEACHERS if name not in NOT_HERE]
    found = {}
    with progress("reliability", len(names)) as advance:
        for name in names:
            used = checkpoints if name in NEED_CHECKPOINTS else ()
            settings = TeacherSettings.named(name)
            found[name] = reliability(model, settings, queries, pool, checkpoints=used, fit_on=world.pool)
            advance(1)
    return found


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
