"""`influcoder benchmark toxicity`: which method finds the few unsafe examples that a decoder was fine-tuned on?

DATE-LM's protocol (Jiao et al. 2025, arXiv 2507.09424): a decoder is fine-tuned on benign examples with less than
1 % unsafe ones among them, and every method ranks the pool by its mean score for a few unsafe references. Among the
rows are refusals of unsafe requests too, which look alike and are not unsafe: they are ranked with the others
(heterogeneous) or left out of the ranking (homogeneous). DATE-LM trains a second model for the latter; here a single
model was trained on both.

    pool          dolly; unsafe answers and refusals of xstest
    references    unsafe answers of jailbreakbench's own requests
    students      learn from benign_chat, advbench and harmbench: no source of the pool, nor of the references;
                  what is left of these is unlabelled
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.benchmarks.corpora import datelm, hub
from influcoder.benchmarks.corpora.corpora import benign_chat, dolly, shuffled, toxicity
from influcoder.benchmarks.corpora.problem import Problem, Split, train_and_validation
from influcoder.benchmarks.methods.bench import Bench
from influcoder.benchmarks.results.estimates import estimate
from influcoder.benchmarks.settings import ToxicitySettings
from influcoder.benchmarks.tasks.task import ComparisonTask, SeedRun, comparison
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.evaluation.evaluate import Scored
from influcoder.maths.arrays import Matrix
from influcoder.maths.metrics import precision_recall_areas

RANKINGS = ("homogeneous", "heterogeneous")
MEASURES = ("auprc", "average_precision")
RESAMPLES = 400
ONE_UNSAFE_IN = 101
"""benign rows: less than 1 %"""


class Toxicity(ComparisonTask[ToxicitySettings, NDArray[Any]]):
    """The benchmark on the corpora in a folder, or on DATE-LM's own set; the truth is the label of each pool row."""

    def draw(self, seed: int) -> Problem:
        sizes = self.settings
        if datelm.names(self.data, hub.TOXICITY):
            problem = datelm.toxic_problem(self.data, sizes.train_queries, sizes.train_pool, seed)
        else:
            problem = toxic_problem(self.data, sizes, seed)
        return replace(problem, kinds=["reference"] * len(problem.queries), one_question=True, group=request)

    def measure(self, bench: Bench, scored: Mapping[str, Scored]) -> NDArray[Any]:
        return np.array([row.metadata.get("label", "benign") for row in bench.problem.pool])

    def results(self, runs: Sequence[SeedRun[NDArray[Any]]]) -> dict[str, Any]:
        """Both areas of every method in both rankings; intervals by resampling unsafe and other rows separately."""
        values: dict[str, dict[str, Any]] = {name: {} for name in runs[0].scored}
        for ranking in RANKINGS:
            shown = [(run.truth != "safe_refusal") | (ranking == "heterogeneous") for run in runs]
            unsafe = [run.truth[rows] == "unsafe" for run, rows in zip(runs, shown, strict=True)]
            draws = [_resamples(rows) for rows in unsafe]
            for name in values:
                means = [run.scored[name].scores.mean(axis=0)[rows] for run, rows in zip(runs, shown, strict=True)]
                plain = [precision_recall_areas(*pair) for pair in zip(means, unsafe, strict=True)]
                drawn = [precision_recall_areas(*triple) for triple in zip(means, unsafe, draws, strict=True)]
                values[name][ranking] = {
                    measure: estimate(
                        [float(areas[place][0]) for areas in plain],
                        np.quantile(np.mean([areas[place] for areas in drawn], axis=0), [0.025, 0.975]).tolist(),
                    )
                    for place, measure in enumerate(MEASURES)
                }
        return comparison(runs, values, self.settings.teacher)


def toxic_problem(data: Path, settings: ToxicitySettings, seed: int) -> Problem:
    """The pool, the references and what students learn from, of one seed; no request is on two sides."""
    rng, examples, used_requests = np.random.default_rng(seed), toxicity(data), set[str]()

    def draw(source: str, label: str, count: int | None) -> list[Example]:
        """`count` examples of different requests that are not used yet, or one of every such request when None."""
        free = [row for row in examples if _is_of(row, source, label) and request(row) not in used_requests]
        different: dict[str, Example] = {}
        for row in shuffled(free, None, "toxicity", rng):
            different.setdefault(request(row), row)
        if count is not None and len(different) < count:
            raise ConfigError(f"toxicity: {len(different)} different requests of a kind, {count} are needed.")
        drawn = list(different.values())[:count]
        used_requests.update(map(request, drawn))
        return drawn

    benign = shuffled(dolly(data), settings.benign, "dolly", rng)
    hidden, unsafe_train = settings.benign // ONE_UNSAFE_IN, settings.train_pool // 6
    pool = [*benign, *draw("xstest", "unsafe", hidden), *draw("xstest", "safe_refusal", 2 * hidden)]
    references = draw("jailbreakbench", "unsafe", settings.references)
    queries = draw("harmbench", "unsafe", settings.train_queries)
    harmless = settings.train_pool - unsafe_train
    chats = shuffled(benign_chat(data), harmless, "benign_chat", rng, more=settings.unlabelled)
    train_pool = [*chats[:harmless], *draw("advbench", "unsafe", unsafe_train)]
    train_pool = [train_pool[row] for row in rng.permutation(len(train_pool))]
    pool = [pool[row] for row in rng.permutation(len(pool))]
    # Drawn last, so that they do not change the draws above.
    further = draw("harmbench", "unsafe", None)
    unlabelled = Split(further, [*chats[harmless:], *draw("advbench", "unsafe", None)])
    return Problem(pool, references, (), *train_and_validation(queries, train_pool), unlabelled)


def request(example: Example) -> str:
    """The request, without case and spacing; an example of no toxic source is its own."""
    return " ".join(example.prompt.lower().split()) if "source" in example.metadata else example.id


def _is_of(example: Example, source: str, label: str) -> bool:
    """Whether an example is of a source and label; of jailbreakbench only the requests it wrote itself."""
    has_origin = source != "jailbreakbench" or example.metadata["origin"] == "Original"
    return (example.metadata["source"], example.metadata["label"]) == (source, label) and has_origin


def _resamples(unsafe: NDArray[np.bool_]) -> Matrix:
    """(RESAMPLES, n_pool) how often each row was drawn; as many unsafe ones as there are."""
    rng = np.random.default_rng(0)
    weights = np.zeros((RESAMPLES, len(unsafe)))
    for side in (unsafe, ~unsafe):
        count = int(side.sum())
        weights[:, side] = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return weights
