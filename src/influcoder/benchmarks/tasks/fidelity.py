"""`influcoder benchmark fidelity`: how well does each method rank a pool as the exact teacher does?

Every corpus with every seed has its own split, teacher and students. What is learnt is learnt on the training side;
15 % of it chooses between models; every number is of the test side, which nothing has seen.

    tasks    BIG-Bench Hard asked of Dolly, and of a second pool; students of one pool are tested on the other too
    facts    paraphrases of false facts, on a pool of their statements and look-alikes: recall@10 of the statement
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.corpora import facts, states, tasks
from influcoder.benchmarks.corpora.problem import Problem
from influcoder.benchmarks.methods.bench import PSEUDO, TIERS, Bench
from influcoder.benchmarks.methods.scored import score_methods
from influcoder.benchmarks.results.estimates import means
from influcoder.benchmarks.results.frontier import frontier
from influcoder.benchmarks.settings import FACTS, POOLS, FidelitySettings
from influcoder.benchmarks.tasks.fidelity_bench import FidelityBench
from influcoder.benchmarks.tasks.task import SeedRun, Task, head
from influcoder.evaluation.evaluate import Scored
from influcoder.evaluation.methods import student_methods
from influcoder.maths.arrays import Floats
from influcoder.maths.metrics import METRICS, retrieval, spearman_rows, top_overlap_rows
from influcoder.model.decoder import Decoder
from influcoder.store.files import atomic_write
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample
from influcoder.teachers.settings import TeacherSettings

COSTS = ("ms_per_example", "bytes_per_example")
MEANS = ("shortlists", "trust", "recall")
SHORTLISTS = (0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75)


class Fidelity:
    """The benchmark on every corpus that the settings name."""

    def __init__(self, decoder: Decoder, settings: FidelitySettings, data: str | Path) -> None:
        TeacherSettings.named(settings.teacher)
        self.settings = settings
        self.corpora = {name: CorpusTask(decoder, settings, data, name) for name in dict.fromkeys(settings.corpora)}

    def run(self, folder: Path) -> dict[str, Any]:
        """Run every corpus in `folder`, which the caller has claimed; leaves its figure there too."""
        corpora = {name: corpus.results(corpus.seed_runs(folder)) for name, corpus in self.corpora.items()}
        metrics = head(self.settings) | {"splits": {"overlap": 0}, "corpora": corpora}
        atomic_write(folder / "frontier.svg", frontier(metrics))
        return metrics


class CorpusTask(Task[FidelitySettings, FidelityBench, Mapping[str, Any]]):
    """The benchmark on a single corpus; it measures all numbers of a seed."""

    compared = ("surface", "tfidf", "bm25", "length", "random", "exact", "paper-recipe", "untrained")
    audited_roles = ("queries", "pool")  # a question may be worded as its own statement is

    def __init__(self, decoder: Decoder, settings: FidelitySettings, data: str | Path, corpus: str) -> None:
        super().__init__(decoder, settings, data)
        self.corpus = corpus

    def folder_name(self, seed: int) -> str:
        return f"{self.corpus}-{seed}"

    def draw(self, seed: int) -> Problem:
        budget = self.settings.budget
        return facts(self.data, budget, seed) if self.corpus == FACTS else tasks(self.data, self.corpus, budget, seed)

    def bench(self, problem: Problem, seed: int, folder: Path) -> FidelityBench:
        return FidelityBench(
            self.decoder,
            self.decoder,
            problem,
            folder,
            seed,
            backbone=self.settings.backbone,
            paper_epochs=self.settings.paper_epochs,
            taught_by=self.settings.teacher,
            corpus=self.corpus,
        )

    def scores(self, bench: FidelityBench) -> dict[str, Scored]:
        """Baselines, every tier, the scaling curve of the static one, and students of the other pools."""
        entries: dict[str, tuple[str, Bench]] = {}
        for tier in _tiers(bench):
            entries[tier], entries[f"{tier}-exact-query"] = ((name, bench) for name in student_methods(tier))
        curve = self.curve(bench)
        entries |= {name: ("influcoder", replace(bench, share=share)) for name, share in curve.items()}
        most, share = max(curve.items(), key=lambda point: point[1], default=("", 1.0))
        if share > 1:
            for method in ("static-exact-query", "surface"):
                name = method.replace("static", "influcoder")
                entries[most.replace("static", method)] = (name, replace(bench, share=share))
        for other_pool in self._other_pools(bench):
            entries[f"static from {other_pool.corpus}"] = ("influcoder", other_pool)
            if other_pool.backbone is not None:
                entries[f"paper-recipe from {other_pool.corpus}"] = ("paper-recipe", other_pool)
        scored = score_methods(bench, self.compared, entries)
        for tier in _tiers(bench):
            exact = scored[f"{tier}-exact-query"]
            scored[f"{tier}-exact-query-int8"] = _in_int8(exact, bench.student(tier), bench.test)
        return scored

    def curve(self, bench: FidelityBench) -> dict[str, float]:
        """The static students that learn from less or more, by name: from which share of the training examples."""
        points = {f"static, {share:g} of the examples": share for share in self.settings.shares}
        most = 1 + len(bench.problem.unlabelled.pool) / len(bench.problem.train.pool)
        times = [min(times, most) for times in self.settings.times if most > 1]
        return points | {f"static, {share:.0f} times the pool": share for share in times}

    def measure(self, bench: FidelityBench, scored: Mapping[str, Scored]) -> Mapping[str, Any]:
        problem, truth, tiers = bench.problem, bench.test.influence, _tiers(bench)
        sizes = {"train": problem.train, "test": (problem.queries, problem.pool), "more": problem.unlabelled}
        shares = {"static": 1.0} | self.curve(bench)
        numbers = {
            "examples": {name: [len(side) for side in split] for name, split in sizes.items()},
            "methods": {name: method.fidelity(truth, problem.pool, seed=bench.seed) for name, method in scored.items()},
            "shortlists": {
                tier: {
                    f"{share:g}": _covered(truth, scored[f"{tier}-exact-query"].scores, share) for share in SHORTLISTS
                }
                for tier in tiers
            },
            "curve": {name: share * len(problem.train.pool) for name, share in shares.items()},
            "trust": {tier: _trust(bench.student(tier), bench.test, scored[tier].scores) for tier in tiers},
        }
        if self.corpus == FACTS:
            numbers["recall"] = _recall(truth, scored, states(problem.queries, problem.pool))
        return numbers

    def results(self, runs: Sequence[SeedRun[Mapping[str, Any]]]) -> dict[str, Any]:
        """Means over seeds, with each seed's and the mean of their bootstrap intervals."""
        seeds = [run.truth for run in runs]
        methods: dict[str, Any] = {}
        for name in seeds[0]["methods"]:
            values = [seed["methods"][name] for seed in seeds]
            intervals = {key: np.mean([value["interval_95"][key] for value in values], axis=0) for key in METRICS}
            methods[name] = {key: float(np.mean([value[key] for value in values])) for key in (*METRICS, *COSTS)}
            methods[name]["interval_95"] = {key: interval.tolist() for key, interval in intervals.items()}
            methods[name]["seeds"] = {key: [value[key] for value in values] for key in METRICS}
        averaged = {key: means([seed[key] for seed in seeds]) for key in MEANS if key in seeds[0]}
        return {"methods": methods} | averaged | {key: seeds[0][key] for key in ("curve", "examples")}

    def _other_pools(self, bench: FidelityBench) -> list[FidelityBench]:
        """The same seed's benches of the other pools, where this corpus is a pool of tasks."""
        names = [name for name in dict.fromkeys(self.settings.corpora) if name in POOLS and self.corpus in POOLS]
        corpora = [CorpusTask(self.decoder, self.settings, self.data, name) for name in names if name != self.corpus]
        return [
            corpus.bench(corpus.draw(bench.seed), bench.seed, bench.folder.parent / corpus.folder_name(bench.seed))
            for corpus in corpora
        ]


def _tiers(bench: Bench) -> tuple[str, ...]:
    """`TIERS`, and `PSEUDO` where there is something to label."""
    return TIERS if bench.lacks("unlabelled") else (*TIERS, PSEUDO)


def _in_int8(exact: Scored, encoder: InfluenceEncoder, test: Sample) -> Scored:
    """The same scores from pool vectors of a byte a number, with a scale for each dimension."""
    vectors = encoder.encode_pool(test.pool)
    scale = np.maximum(np.abs(vectors).max(axis=0), 1e-30) / 127
    codes = np.round(vectors / scale).astype(np.int8)
    queries = encoder.project_query(test.queries, test.query_features)
    return Scored(queries @ (codes * scale).T, exact.seconds, codes.shape[1])


def _trust(encoder: InfluenceEncoder, test: Sample, scores: Floats) -> dict[str, float]:
    """How well an encoder predicted the agreement of each test query, asked as text."""
    agreed = spearman_rows(test.influence, scores)
    middle, low, high = encoder.trust["text"].expect(encoder.encode_query(test.queries)).T
    return {
        "expected": float(middle.mean()),
        "found": float(agreed.mean()),
        "off_by": float(np.abs(middle - agreed).mean()),
        "inside_band": float(((agreed >= low) & (agreed <= high)).mean()),
        "band_width": float((high - low).mean()),
    }


def _rescored(truth: Floats, scores: Floats, count: int) -> Floats:
    """The truth of a query's best `count` rows by some scores; the others come last."""
    shortlist = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    rescored = np.full(truth.shape, -np.inf)
    np.put_along_axis(rescored, shortlist, np.take_along_axis(truth, shortlist, 1), 1)
    return rescored


def _covered(truth: Floats, scores: Floats, share: float) -> float:
    """Share of the truth's top tenth in a query's best `share` of the pool, where re-scoring can find it."""
    return float(top_overlap_rows(truth, _rescored(truth, scores, round(share * truth.shape[1]))).mean())


def _recall(truth: Floats, scored: Mapping[str, Scored], relevant: Any) -> dict[str, dict[str, float]]:
    """Recall@10 of the statement that a question paraphrases; the cascade re-scores the static tier's first 10 %."""
    cascade = _rescored(truth, scored["static-exact-query"].scores, truth.shape[1] // 10)
    matrices = {name: method.scores for name, method in scored.items()} | {"teacher": truth, "cascade": cascade}
    return {name: retrieval(matrix, relevant) for name, matrix in matrices.items()}
