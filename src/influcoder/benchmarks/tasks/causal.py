"""`influcoder benchmark causal`: which method's scores predict what training does?

A decoder is fine-tuned on a pool, with checkpoints, once for each seed. Every method scores every pool row for every
query on that model, and is compared with two things that no attribution method has computed: the losses after
retraining on random halves of the pool (LDS), and the losses after a single SGD step on one row.

Students and fitted baselines learn from a training split, whose rows are in neither pool nor queries.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.benchmarks.corpora.facts_problem import facts_problem
from influcoder.benchmarks.corpora.mixed import mixed_problem
from influcoder.benchmarks.corpora.problem import Problem
from influcoder.benchmarks.methods.bench import Bench
from influcoder.benchmarks.methods.registry import MODEL_METHODS
from influcoder.benchmarks.methods.scored import cached_scores
from influcoder.benchmarks.results.estimates import over_query_means
from influcoder.benchmarks.results.length import by_length
from influcoder.benchmarks.settings import CausalSettings
from influcoder.benchmarks.tasks.task import ComparisonTask, SeedRun, comparison
from influcoder.data.examples import Example
from influcoder.data.reading import read_examples
from influcoder.errors import ConfigError
from influcoder.evaluation.evaluate import Scored
from influcoder.evaluation.retraining import (
    draw_subsets,
    lds,
    one_step,
    pooled_step_agreement,
    retrained_losses,
    step_agreement,
)
from influcoder.maths.arrays import Matrix
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder

RETRAINING_SEED = 1000
LEAST_POOL = 4
"""examples that EK-FAC is fitted on"""


@dataclass(frozen=True, slots=True)
class TrainingEffects:
    """What training did to the queries' losses.

    Attributes:
        subsets: (n, size) pool rows that were retrained on.
        losses: (n, n_queries) after that.
        ceiling: (n_queries,) how well the losses of two retrainings on the same rows agree.
        stepped: pool rows that a single step was taken on.
        changes: (n_queries, n_stepped) by how much the step lowered each loss.
    """

    subsets: NDArray[np.int64]
    losses: Matrix
    ceiling: Matrix
    stepped: NDArray[np.int64]
    changes: Matrix


class Causal(ComparisonTask[CausalSettings, TrainingEffects]):
    """The benchmark on a problem of its own, the same for every seed."""

    compared = MODEL_METHODS

    def __init__(self, decoder: Decoder, settings: CausalSettings, problem: Problem) -> None:
        super().__init__(decoder, settings, Path())
        self.problem = problem
        if len(problem.pool) < LEAST_POOL:
            raise ConfigError(
                f"the pool has {len(problem.pool)} examples, expected at least {LEAST_POOL}: give more --pool."
            )

    @classmethod
    def of_files(
        cls,
        decoder: Decoder,
        settings: CausalSettings,
        pool: list[str] | None = None,
        queries: list[str] | None = None,
        data: str | None = None,
    ) -> "Causal":
        """The benchmark on files of examples, for which there are no students; on a mixed pool of `data`, the folder
        of the corpora; on facts that come with the package when nothing is given.

        Raises:
            ConfigError: only one of the files is given, or files and `data`, or the pool is too small.
            DataError: a corpus is missing.
        """
        if data is not None:
            if pool or queries:
                raise ConfigError("give --data, or --pool and --queries, not both.")
            return cls(decoder, settings, mixed_problem(Path(data), partial(_whole, decoder)))
        if (pool is None) != (queries is None):
            raise ConfigError("give --pool and --queries, or neither for facts that come with the package.")
        if not pool or not queries:
            return cls(decoder, settings, facts_problem(settings.small_demo))
        rows, examples = read_examples(pool), read_examples(queries)
        return cls(decoder, settings, Problem(rows, examples, ["query"] * len(examples)))

    def draw(self, seed: int) -> Problem:
        return self.problem

    def measure(self, bench: Bench, scored: Mapping[str, Scored]) -> TrainingEffects:
        settings, (pool, queries) = self.settings, (self.problem.pool, self.problem.queries)
        subsets = draw_subsets(len(pool), settings.subsets, seed=0)
        repeats = max(2, settings.subsets // 5)
        losses, repeated = (
            retrained_losses(
                self.decoder, pool, queries, rows, settings.tuning(RETRAINING_SEED + number), bench.folder.parent / name
            )
            for number, (rows, name) in enumerate(((subsets, "retrained"), (subsets[:repeats], "retrained-again")))
        )
        ceiling = spearman_rows(losses[:repeats].T, repeated.T)
        stepped = np.sort(np.random.default_rng(0).permutation(len(pool))[: settings.stepped])
        rows = [pool[row] for row in stepped]
        changes = cached_scores(bench.folder / f"one-step-{len(rows)}", partial(one_step, bench.model, rows, queries))
        return TrainingEffects(subsets, losses, ceiling, stepped, changes)

    def results(self, runs: Sequence[SeedRun[TrainingEffects]]) -> dict[str, Any]:
        truth = runs[0].truth
        tokens = np.array([row.targets for row in self.decoder.tokenise(self.problem.pool)])
        values = {name: self._value(name, runs, tokens) for name in runs[0].scored}
        splits = {"pool": len(self.problem.pool), "queries": len(self.problem.queries), "subsets": len(truth.subsets)}
        return comparison(runs, values, self.settings.teacher) | {
            "splits": splits | {"overlap": runs[0].audit["overlap"]},
            "lds_ceiling": over_query_means([truth.ceiling], self.problem.kinds),
        }

    def _value(self, name: str, runs: Sequence[SeedRun[TrainingEffects]], tokens: NDArray[np.int64]) -> dict[str, Any]:
        kinds, pairs = self.problem.kinds, [(run.scored[name].scores, run.truth) for run in runs]
        steps = [(scores[:, truth.stepped], truth.changes) for scores, truth in pairs]
        policies: dict[str, list[Matrix]] = {}
        for scores, truth in pairs:
            for policy, changed in by_length(scores, tokens).items():
                policies.setdefault(policy, []).append(lds(changed, truth.subsets, truth.losses))
        agreements = {
            method: [spearman_rows(run.scored[name].scores, run.scored[method].scores).mean() for run in runs]
            for method in runs[0].scored
        }
        return {
            "lds": over_query_means([lds(scores, truth.subsets, truth.losses) for scores, truth in pairs], kinds),
            "lds_by_length": {policy: over_query_means(rows, kinds) for policy, rows in policies.items()},
            "one_step": over_query_means([step_agreement(*step) for step in steps], kinds),
            "one_step_pooled": float(np.mean([pooled_step_agreement(*step) for step in steps])),
            "rho_to": {method: float(np.mean(seeds)) for method, seeds in agreements.items()},
        }


def _whole(decoder: Decoder, examples: Sequence[Example]) -> list[bool]:
    """Which examples the decoder reads whole and gets a loss from."""
    return [row.targets > 0 and len(row.ids) < decoder.max_length for row in decoder.tokenise(examples)]
