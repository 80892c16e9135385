"""`influcoder benchmark selection`: which 5 % of a mixed pool should a decoder be fine-tuned on for a task?

Every method scores the pool for a few validation queries of each task, on a decoder that was warmed up on a random
5 % (as LESS is). A rule chooses rows by the scores, and the decoder as it was is fine-tuned on them. What counts is its
loss on test rows of the task that nothing has seen, and the gain: by how much that is below the mean loss after random
choices, row by row. Random scores, and those of shuffled weights, are put to every rule as well: what gains they have
is noise, or what gradients of any network say of two texts. Scores and rules are crossed at one budget, as *A Critical
Look at Targeted Instruction Selection* does (Li et al. 2026, arXiv 2602.14696).

    pool      benign_chat rows of every genre, and as many of Dolly
    tasks     genres of benign_chat: other rows of theirs
    students  learn from other rows of the same mixture, and label further ones
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.corpora import benign_chat, dolly, shuffled
from influcoder.benchmarks.corpora.problem import Problem, Split, train_and_validation
from influcoder.benchmarks.methods.bench import Bench
from influcoder.benchmarks.methods.registry import SHUFFLED
from influcoder.benchmarks.methods.scored import cached_scores, file_name
from influcoder.benchmarks.results.estimates import over_queries
from influcoder.benchmarks.settings import EXACT, SelectionSettings
from influcoder.benchmarks.tasks.selection_rules import RULES, choose_rows
from influcoder.benchmarks.tasks.task import ComparisonTask, SeedRun, comparison
from influcoder.data.examples import Example
from influcoder.errors import DataError
from influcoder.evaluation.evaluate import Scored
from influcoder.evaluation.retraining import losses_of
from influcoder.evaluation.scorers import Scores
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import finetune
from influcoder.progress import progress

RULE = "round-robin"
"""by which every method chooses; the crossed ones choose by every rule"""
CROSSED = ("random", SHUFFLED, EXACT, "influcoder-exact-query", "influcoder-short-exact-query", "rds+", "tfidf")
Losses = Mapping[str, Scores]
"""(tasks, test rows of a task) losses, by what was trained on"""


class Selection(ComparisonTask[SelectionSettings, Losses]):
    """The benchmark on the corpora in a folder."""

    def draw(self, seed: int) -> Problem:
        return mixed_problem(self.data, self.settings, seed)

    def training(self, problem: Problem, seed: int, folder: Path) -> tuple[Decoder, Sequence[Example]]:
        warm_up = np.random.default_rng(seed + 1000).permutation(len(problem.pool))[: self.settings.budget]
        return self.decoder, [problem.pool[row] for row in np.sort(warm_up)]

    def measure(self, bench: Bench, scored: Mapping[str, Scored]) -> Losses:
        """Losses without training, after training on the whole pool, and on what each method and rule chose."""
        settings, pool, test = self.settings, bench.problem.pool, bench.problem.others["test"]
        kinds, places = np.array(bench.problem.kinds), range(len(settings.tasks))

        @cache
        def after(rows: tuple[int, ...], place: int) -> Scores:
            """A task's losses; rules often agree on the rows."""
            decoder = finetune(bench.base, [pool[row] for row in rows], bench.tuning) if rows else bench.base
            return losses_of(decoder, test[place * settings.test : (place + 1) * settings.test])

        def after_all(rows: tuple[int, ...]) -> Scores:
            return np.stack([after(rows, place) for place in places])

        def after_choice(scores: Scores, rule: str) -> Scores:
            """Each task's row of the losses after training on what was chosen for it."""
            of_tasks = [
                choose_rows(rule, scores[kinds == task], scores[kinds != task], settings.budget, pool)
                for task in settings.tasks
            ]
            return np.stack([after(tuple(rows.tolist()), place) for place, rows in enumerate(of_tasks)])

        trainings = {"untouched": partial(after_all, ()), "all": partial(after_all, tuple(range(len(pool))))} | {
            f"{name}, {rule}": partial(after_choice, method.scores, rule)
            for name, method in scored.items()
            for rule in (RULES if name in CROSSED else (RULE,))
        }
        losses = {}
        with progress("training on what was chosen", len(trainings)) as advance:
            for name, train in trainings.items():
                losses[name] = cached_scores(bench.folder / "losses" / file_name(name), train)
                advance(1)
        return losses

    def results(self, runs: Sequence[SeedRun[Losses]]) -> dict[str, Any]:
        scored = runs[0].scored
        values = {name: self._by_task(runs, f"{name}, {RULE}") for name in scored}
        return comparison(runs, values, self.settings.teacher) | {
            "crossed": {
                name: {rule: self._by_task(runs, f"{name}, {rule}") for rule in RULES}
                for name in CROSSED
                if name in scored
            },
            "beside": {name: self._by_task(runs, name) for name in ("untouched", "all")},
        }

    def _by_task(self, runs: Sequence[SeedRun[Losses]], name: str) -> dict[str, Any]:
        """The test loss for each task and for all, and by how much it is below that of random choices, row by row."""
        losses = [run.truth[name] for run in runs]
        random = [np.mean([run.truth[f"random, {rule}"] for rule in RULES], axis=0) for run in runs]
        gains = [before - after for before, after in zip(random, losses, strict=True)]
        return {
            key: {
                task: over_queries([rows[place] for rows in values]) for place, task in enumerate(self.settings.tasks)
            }
            | {"all": over_queries([rows.ravel() for rows in values])}
            for key, values in (("loss", losses), ("gain", gains))
        }


def mixed_problem(data: Path, settings: SelectionSettings, seed: int) -> Problem:
    """The problem of one seed; its queries, and the test rows in its side "test", are in the order of the tasks."""
    rng = np.random.default_rng(seed)
    rows = shuffled(benign_chat(data), None, "benign_chat", rng)
    queries, test, reserved = [], [], settings.queries + settings.test
    for task in settings.tasks:
        of_task = [row for row in rows if row.metadata["genre"] == task]
        if len(of_task) <= reserved:
            raise DataError(f"benign_chat: {len(of_task)} rows of genre {task!r}, more than {reserved} are needed.")
        # The last in order: the pool, which is taken from the beginning, keeps its share of the task's rows.
        queries += of_task[-settings.queries :]
        test += of_task[-reserved : -settings.queries]
    reserved_ids = {row.id for row in (*queries, *test)}
    half, half_to_learn, (more_queries, more_rows) = settings.rows // 2, settings.train_pool // 2, settings.unlabelled
    chats = iter([row for row in rows if row.id not in reserved_ids])
    dollies = iter(shuffled(dolly(data), None, "dolly", rng))
    pool = _take(chats, half) + _take(dollies, settings.rows - half)
    train_pool = _take(chats, half_to_learn) + _take(dollies, half_to_learn)
    train_queries = _take(chats, settings.train_queries)
    further = list(islice(chats, more_queries))
    unlabelled = Split(further, [*islice(chats, more_rows // 2), *islice(dollies, more_rows - more_rows // 2)])
    pool, train_pool = ([side[row] for row in rng.permutation(len(side))] for side in (pool, train_pool))
    return Problem(
        pool,
        queries,
        [task for task in settings.tasks for _ in range(settings.queries)],
        *train_and_validation(train_queries, train_pool),
        unlabelled,
        others={"test": test},
    )


def _take(rows: Iterator[Example], count: int) -> list[Example]:
    examples = list(islice(rows, count))
    if len(examples) < count:
        raise DataError(f"{len(examples)} different rows are left of a corpus, {count} are needed.")
    return examples
