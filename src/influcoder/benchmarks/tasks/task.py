"""What every benchmark does for each of its seeds: draw a problem, train a model, score by every method, measure.

A killed run is resumed: models, scores and measurements are kept in the folder as they are made.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from influcoder.benchmarks.corpora.problem import Problem
from influcoder.benchmarks.methods.bench import Bench
from influcoder.benchmarks.methods.registry import TASK_METHODS, left_out, with_needed
from influcoder.benchmarks.methods.scored import score_methods
from influcoder.benchmarks.methods.trained import trained
from influcoder.benchmarks.results.estimates import costs
from influcoder.benchmarks.results.sanity import mean_sanity, sanity_of
from influcoder.benchmarks.settings import BenchmarkSettings, ComparisonSettings
from influcoder.data.examples import Example
from influcoder.evaluation.evaluate import Scored
from influcoder.model.decoder import Decoder

Settings = TypeVar("Settings", bound=BenchmarkSettings)
Comparison = TypeVar("Comparison", bound=ComparisonSettings)
AnyBench = TypeVar("AnyBench", bound=Bench)
Truth = TypeVar("Truth")


@dataclass(frozen=True, slots=True)
class SeedRun(Generic[Truth]):
    """The results of a seed.

    Attributes:
        scored: scores by method.
        truth: what they are compared with.
        audit: what was checked for leaks.
        skipped: the methods that could not be made, with the reason.
    """

    problem: Problem
    scored: Mapping[str, Scored]
    truth: Truth
    audit: Mapping[str, Any]
    skipped: Mapping[str, str]


class Task(ABC, Generic[Settings, AnyBench, Truth]):
    """A benchmark.

    Args:
        decoder: the model as it was before any fine-tuning.
        settings: its sizes.
        data: the folder of the corpora, or the hub id of a dataset.
    """

    compared: tuple[str, ...] = TASK_METHODS
    """the methods that it compares unless some are named"""
    audited_roles: tuple[str, ...] = ("",)
    """which sides are checked for leaks against each other, see `Problem.audit`"""

    def __init__(self, decoder: Decoder, settings: Settings, data: str | Path) -> None:
        self.decoder = decoder
        self.settings = settings
        self.data = Path(data)

    @abstractmethod
    def draw(self, seed: int) -> Problem:
        """The problem of a seed."""

    @abstractmethod
    def bench(self, problem: Problem, seed: int, folder: Path) -> AnyBench:
        """The model of a seed, ready to make methods from."""

    @abstractmethod
    def scores(self, bench: AnyBench) -> dict[str, Scored]:
        """The scores of every method."""

    @abstractmethod
    def measure(self, bench: AnyBench, scored: Mapping[str, Scored]) -> Truth:
        """What the scores of a seed are compared with."""

    @abstractmethod
    def results(self, runs: Sequence[SeedRun[Truth]]) -> dict[str, Any]:
        """What stands in `metrics.json`."""

    def run(self, folder: Path) -> dict[str, Any]:
        """Run every seed in `folder`, which the caller has claimed, and gather the results."""
        return head(self.settings) | self.results(self.seed_runs(folder))

    def seed_runs(self, folder: Path) -> list[SeedRun[Truth]]:
        """The results of each seed, resumed from what is in the folder."""
        return [self._seed(seed, folder) for seed in range(self.settings.seeds)]

    def folder_name(self, seed: int) -> str:
        """The folder of a seed."""
        return f"seed-{seed}"

    def _seed(self, seed: int, folder: Path) -> SeedRun[Truth]:
        problem = self.draw(seed)
        audited = problem.audit(self.audited_roles)
        bench = self.bench(problem, seed, folder / self.folder_name(seed))
        scored = self.scores(bench)
        return SeedRun(problem, scored, self.measure(bench, scored), audited, left_out(bench, self.compared))


def head(settings: BenchmarkSettings) -> dict[str, Any]:
    """What stands first in every `metrics.json`."""
    return {"schema": 1, "seeds": list(range(settings.seeds)), "settings": settings.recorded()}


class ComparisonTask(Task[Comparison, Bench, Truth]):
    """A benchmark that fine-tunes the decoder and compares methods on it."""

    def __init__(self, decoder: Decoder, settings: Comparison, data: str | Path) -> None:
        methods = with_needed(settings.methods, self.compared, settings.teacher)
        super().__init__(decoder, replace(settings, methods=methods), data)

    def training(self, problem: Problem, seed: int, folder: Path) -> tuple[Decoder, Sequence[Example]]:
        """(decoder, rows) that it is fine-tuned on."""
        return self.decoder, problem.pool

    def bench(self, problem: Problem, seed: int, folder: Path) -> Bench:
        tuning = self.settings.tuning(seed)
        base, rows = self.training(problem, seed, folder)
        model, checkpoints = trained(base, rows, folder / "model", tuning)
        return Bench(
            base,
            model,
            problem,
            folder,
            seed,
            trained_on=rows,
            checkpoints=checkpoints,
            tuning=tuning,
            backbone=self.settings.backbone,
            paper_epochs=self.settings.paper_epochs,
            taught_by=self.settings.teacher,
        )

    def scores(self, bench: Bench) -> dict[str, Scored]:
        return score_methods(bench, self.settings.methods or ())


def comparison(runs: Sequence[SeedRun[Any]], values: Mapping[str, Mapping[str, Any]], teacher: str) -> dict[str, Any]:
    """The methods' values with their costs and sanity checks, the leak audit, and the methods left out."""
    cost = costs([run.scored for run in runs], runs[0].problem, teacher)
    return {
        "audit": runs[-1].audit,
        "sanity": mean_sanity([sanity_of(run.scored, run.problem) for run in runs]),
        "methods": {name: cost[name] | dict(value) for name, value in values.items()},
        "skipped": runs[-1].skipped,
    }
