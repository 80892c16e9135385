"""`influcoder benchmark counterfact`: which rows taught a decoder a false fact?

A decoder that knows the true facts is fine-tuned on false ones among look-alikes (see `corpora.facts`), and every
method ranks the pool for questions that the model now answers falsely. Recall@50 and mean reciprocal rank as
DATE-LM defines them. The false object's loss before, after, and after the
same training without the relevant rows shows that these did teach, and the look-alikes did not.

Students learn from other facts: no subject in common with pool and questions, and no pair of objects asked about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora import datelm, hub
from influcoder.benchmarks.corpora.facts import FactSource, taught_by
from influcoder.benchmarks.corpora.problem import Problem
from influcoder.benchmarks.methods.bench import Bench
from influcoder.benchmarks.methods.scored import cached_scores
from influcoder.benchmarks.methods.trained import cached_decoder
from influcoder.benchmarks.results.estimates import over_queries
from influcoder.benchmarks.settings import CounterfactSettings
from influcoder.benchmarks.tasks.task import ComparisonTask, SeedRun, comparison
from influcoder.data.examples import Example
from influcoder.evaluation.evaluate import Scored
from influcoder.evaluation.retraining import losses_of
from influcoder.evaluation.scorers import Scores
from influcoder.maths.arrays import Matrix
from influcoder.maths.metrics import retrieval_rows
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune

K = 50
MEASURES = (f"recall_at_{K}", "mrr")
STAGES = ("before", "after", "after, without the rows that state it")
TRUE_FACTS = FinetuneSettings(epochs=4, learning_rate=1e-3, rows_a_step=16)
"""how the decoder is taught the true facts first"""


class Counterfact(ComparisonTask[CounterfactSettings, Scores]):
    """The benchmark on the corpus in a folder, or on DATE-LM's own set; it measures losses at each of `STAGES`."""

    def draw(self, seed: int) -> Problem:
        return fact_problem(self.data, self.settings, seed)

    def training(self, problem: Problem, seed: int, folder: Path) -> tuple[Decoder, Sequence[Example]]:
        base, knowledge = self.decoder, problem.others["knowledge"]
        if knowledge:
            base = cached_decoder(folder / "known", partial(finetune, base, knowledge, replace(TRUE_FACTS, seed=seed)))
        return base, problem.pool

    def measure(self, bench: Bench, scored: Mapping[str, Scored]) -> Scores:
        return cached_scores(bench.folder / "losses", partial(_losses, bench))

    def results(self, runs: Sequence[SeedRun[Scores]]) -> dict[str, Any]:
        relevant = [taught_by(run.problem.queries, run.problem.pool) for run in runs]
        values = {}
        for name in runs[0].scored:
            measured = [
                retrieval_rows(run.scored[name].scores, rows, K) for run, rows in zip(runs, relevant, strict=True)
            ]
            measures = {key: _by_kind([pair[place] for pair in measured], runs) for place, key in enumerate(MEASURES)}
            values[name] = {kind: {key: measures[key][kind] for key in MEASURES} for kind in measures[MEASURES[0]]}
        stages = {stage: _by_kind([run.truth[place] for run in runs], runs) for place, stage in enumerate(STAGES)}
        kinds = sorted(set(runs[0].problem.kinds))
        taught = {kind: {stage: stages[stage][kind] for stage in STAGES} for kind in kinds}
        return comparison(runs, values, self.settings.teacher) | {"taught": taught}


def fact_problem(data: Path, settings: CounterfactSettings, seed: int) -> Problem:
    """The problem of one seed; its side "knowledge" has the true facts that the decoder is taught first.

    DATE-LM's own set has none.
    """
    if datelm.names(data, hub.COUNTERFACT):
        return _grouped(datelm.fact_problem(data, *settings.datelm_train, seed), [])
    source = FactSource(data, np.random.default_rng(seed))
    budgets = settings.test, settings.train, settings.train.part(0.25), settings.unlabelled
    test, train, validation, unlabelled = map(source.draw, budgets)
    kinds = [str(query.metadata["kind"]) for query in test.queries]
    problem = Problem(test.pool, test.queries, kinds, train.split, validation.split, unlabelled.split)
    return _grouped(problem, [*test.knowledge, *train.knowledge, *validation.knowledge])


def _grouped(problem: Problem, knowledge: Sequence[Example]) -> Problem:
    """The problem, with no subject of its questions or pool where students learn."""
    sharing = [(f"{split}pool", f"{split}queries") for split in ("", "train ", "validation ", "unlabelled ")]
    sharing += [(name, "knowledge") for name in problem.sides()]
    return replace(
        problem,
        others={"knowledge": knowledge},
        group=lambda example: str(example.metadata["subject"]),
        sharing=sharing,
    )


def _losses(bench: Bench) -> Scores:
    """(stages, n_queries) losses of the questions' false objects."""
    queries, pool = bench.problem.queries, bench.problem.pool
    irrelevant = np.flatnonzero(~taught_by(queries, pool).any(axis=0)).tolist()
    # In DATE-LM's own set every row is relevant to some question: nothing is left to train on.
    without = finetune(bench.base, [pool[row] for row in irrelevant], bench.tuning) if irrelevant else bench.base
    return np.stack([losses_of(decoder, queries) for decoder in (bench.base, bench.model, without)])


def _by_kind(rows: Sequence[Matrix], runs: Sequence[SeedRun[Any]]) -> dict[str, Any]:
    """For each kind of query and for all, the mean of all seeds' (n_queries,) rows."""
    kinds = [np.array(run.problem.kinds) for run in runs]
    masks_of_kinds = {kind: [of_seed == kind for of_seed in kinds] for kind in sorted(set(kinds[0].tolist()))}
    masks_of_kinds["all"] = [np.ones(len(of_seed), bool) for of_seed in kinds]
    return {
        kind: over_queries([row[mask] for row, mask in zip(rows, masks, strict=True)])
        for kind, masks in masks_of_kinds.items()
    }
