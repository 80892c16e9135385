"""`influcoder benchmark paper`: the paper's own experiment (arXiv 2606.13668): BIG-Bench Hard asked of Dolly.

Students of several backbones and of ours, against the influences of the decoder as it is: no fine-tuning, the paper's
splits by a seeded shuffle, the paper's sizes. BIG-Bench Hard is asked without its worked examples.
"""

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.corpora import Budget, tasks
from influcoder.benchmarks.methods.bench import EXACT, Bench, World
from influcoder.benchmarks.methods.registry import SHUFFLED, Scored, all_methods
from influcoder.benchmarks.results.audit import audit
from influcoder.benchmarks.results.estimates import costs, estimate
from influcoder.benchmarks.results.sanity import mean_sanity, sanity_of
from influcoder.errors import ConfigError
from influcoder.maths.metrics import agreement
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings

WORDS_AND_OURS = (
    "random",
    "tfidf",
    "bm25",
    EXACT,
    SHUFFLED,
    "logra",
    "rds+",
    "surface",
    "influcoder",
    "influcoder-exact-query",
    "influcoder-short-exact-query",
    "cascade",
)
OF_A_BACKBONE = ("untrained", "paper-recipe")
MEASURES = ("per_query_spearman", "aggregated_spearman")


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """The paper's sizes.

    Attributes:
        seeds: of splits, teachers and students.
        backbones: Sentence Transformers folders or hub ids, one student each.
        budget: queries and pool examples to learn from and to test on; a sixth of the former chooses between models.
        epochs: of the paper's recipe.
    """

    backbones: tuple[str, ...]
    seeds: int = 3
    budget: Budget = field(default_factory=lambda: Budget(1500, 3000, 400, 400))
    epochs: int = 8

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds is {self.seeds}, expected at least 1.")


def benchmark(decoder: Decoder, data: Path, folder: Path, settings: PaperSettings) -> dict[str, Any]:
    """Run the benchmark in `folder`, which the caller has claimed; a killed run goes on where it stopped."""
    found, checks = [], []
    for seed in range(settings.seeds):
        world = _world(data, settings, seed)
        leaks = audit(world.sides())
        make = partial(Bench, decoder, decoder, (), world.pool, world, tuning=FinetuneSettings(seed=seed), seed=seed)
        scored = all_methods(make(folder / f"seed-{seed}"), WORDS_AND_OURS)
        for backbone in settings.backbones:
            place = folder / f"seed-{seed}" / Path(backbone).name
            bench = replace(make(place), backbone=backbone, epochs=settings.epochs)
            for name, one in all_methods(bench, OF_A_BACKBONE).items():
                scored[f"{name}, {Path(backbone).name}"] = one
        found.append(scored)
        checks.append(sanity_of(scored, world))
    methods: dict[str, Any] = costs(found, world)
    for name in methods:
        methods[name] |= _agreement([one[name] for one in found], [one[EXACT] for one in found], world)
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "settings": asdict(settings),
        "audit": leaks,
        "sanity": mean_sanity(checks),
        "methods": methods,
    }


def _world(data: Path, settings: PaperSettings, seed: int) -> World:
    split = tasks(data, "dolly", settings.budget, seed)
    queries, pool = split.train
    q, p = len(queries) // 6, len(pool) // 6
    kinds = ["task"] * len(split.test[0])
    return World(split.test[1], split.test[0], kinds, (queries[q:], pool[p:]), (queries[:q], pool[:p]))


def _agreement(scored: list[Scored], exact: list[Scored], world: World) -> dict[str, Any]:
    lengths = np.array([len(one.completion) for one in world.pool])
    each = [agreement(truth.scores, one.scores, lengths) for truth, one in zip(exact, scored, strict=True)]
    return {
        key: estimate([one[key] for one in each], np.mean([one["interval_95"][key] for one in each], axis=0).tolist())
        for key in MEASURES
    }
