"""`influcoder benchmark paper`: the paper's own experiment (arXiv 2606.13668): BIG-Bench Hard asked of Dolly.

Students of several backbones and of ours, against the influences of the decoder as it is: no fine-tuning, the paper's
splits by a seeded shuffle, the paper's sizes. BIG-Bench Hard is asked without its worked examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.corpora import tasks
from influcoder.benchmarks.corpora.problem import Problem, train_and_validation
from influcoder.benchmarks.methods.bench import Bench
from influcoder.benchmarks.methods.registry import SHUFFLED
from influcoder.benchmarks.methods.scored import score_methods
from influcoder.benchmarks.results.estimates import estimate
from influcoder.benchmarks.settings import EXACT, PaperSettings
from influcoder.benchmarks.tasks.task import SeedRun, Task, compared
from influcoder.evaluation.evaluate import Scored
from influcoder.maths.metrics import agreement

OF_A_BACKBONE = ("untrained", "paper-recipe")
MEASURES = ("per_query_spearman", "aggregated_spearman")


class Paper(Task[PaperSettings, Bench, None]):
    """The experiment on the corpora in a folder, or on the hub."""

    compared = (
        *("random", "tfidf", "bm25", EXACT, SHUFFLED, "logra", "rds+", "surface"),
        *("influcoder", "influcoder-exact-query", "influcoder-short-exact-query", "cascade"),
    )

    def draw(self, seed: int) -> Problem:
        problem = tasks(self.data, "dolly", self.settings.budget, seed)
        train, validation = train_and_validation(*problem.train)
        return replace(problem, train=train, validation=validation)

    def bench(self, problem: Problem, seed: int, folder: Path) -> Bench:
        return Bench(self.decoder, self.decoder, problem, folder, seed, paper_epochs=self.settings.paper_epochs)

    def scores(self, bench: Bench) -> dict[str, Scored]:
        scored = score_methods(bench, self.compared)
        for backbone in self.settings.backbones:
            name = Path(backbone).name
            own = replace(bench, backbone=backbone, folder=bench.folder / name)
            scored |= {
                f"{method}, {name}": own_scored for method, own_scored in score_methods(own, OF_A_BACKBONE).items()
            }
        return scored

    def measure(self, bench: Bench, scored: Mapping[str, Scored]) -> None:
        return None

    def results(self, runs: Sequence[SeedRun[None]]) -> dict[str, Any]:
        return compared(runs, {name: _agreement(name, runs) for name in runs[0].scored}, EXACT)


def _agreement(name: str, runs: Sequence[SeedRun[None]]) -> dict[str, Any]:
    seeds = []
    for run in runs:
        lengths = np.array([len(row.completion) for row in run.problem.pool])
        seeds.append(agreement(run.scored[EXACT].scores, run.scored[name].scores, lengths))
    return {
        key: estimate([seed[key] for seed in seeds], np.mean([seed["interval_95"][key] for seed in seeds], axis=0))
        for key in MEASURES
    }
