"""`influcoder benchmark selection`: which 5 % of a mixed pool should a decoder be fine-tuned on for a task?

Every method scores the pool for a few validation queries of each task, on a decoder that was warmed up on a random
5 % (as LESS is). A rule chooses rows by the scores; the decoder as it was is fine-tuned on them, and what counts is
its loss on test rows of the task that nothing has seen; and the gain, by how much it is below that of a random
choice, row by row. Representation (the scores) and rule are crossed at one
budget, as *A Critical Look at Targeted Instruction Selection* does (Li et al. 2026, arXiv 2602.14696).

    pool      benign_chat rows of every genre, and as many of Dolly
    tasks     genres of benign_chat: other rows of theirs
    students  learn from other rows of the same mixture, and label others still
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.corpora import benign_chat, dolly, shuffled
from influcoder.benchmarks.methods.bench import EXACT, Bench, World
from influcoder.benchmarks.methods.registry import TASK_METHODS, Scored, all_methods, kept_scores, left_out
from influcoder.benchmarks.methods.trained import trained
from influcoder.benchmarks.results.audit import audit
from influcoder.benchmarks.results.estimates import costs, over_queries
from influcoder.benchmarks.results.sanity import mean_sanity, sanity_of
from influcoder.benchmarks.tasks.selection_rules import RULES, Rows
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, DataError
from influcoder.evaluation.scorers import Scores
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, batches_of, finetune, measure_losses
from influcoder.progress import progress

TOKEN_BUDGET = 4096
RULE = "round-robin"
"""by which every method chooses; the crossed ones choose by every rule"""
CROSSED = ("gradient-cosine", "influcoder-exact-query", "influcoder-short-exact-query", "rds+", "tfidf")


@dataclass(frozen=True, slots=True)
class SelectionSettings:
    """How much there is to choose from, and how the chosen rows are trained on.

    Attributes:
        seeds: draws of everything, models and methods.
        tasks: genres of benign_chat.
        pool: rows, half of them Dolly's.
        share: of the pool that is chosen.
        queries, test: validation and test rows of each task.
        train_queries, train_pool: what students learn from; a sixth of each chooses between models.
        unlabelled: (queries, pool rows) that a student may label, fewer where a corpus ends.
        tuning: how the chosen rows are trained on, and the decoder is warmed up.
        backbone, epochs: of the paper's recipe.
        methods: that are compared.
        teacher: that students learn from.
    """

    seeds: int = 3
    tasks: tuple[str, ...] = ("math", "paraphrase")
    pool: int = 240
    share: float = 0.05
    queries: int = 8
    test: int = 24
    train_queries: int = 48
    train_pool: int = 180
    unlabelled: tuple[int, int] = (1000, 3000)
    tuning: FinetuneSettings = field(default_factory=lambda: FinetuneSettings(2, 2e-4, 4))
    backbone: str | None = None
    epochs: int = 8
    methods: tuple[str, ...] = TASK_METHODS
    teacher: str = EXACT

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds is {self.seeds}, expected at least 1.")
        if not 0 < self.share < 1 or self.budget < 1:
            raise ConfigError(f"{self.share} of {self.pool} rows: expected a share that is a row or more, and not all.")

    @property
    def budget(self) -> int:
        """How many rows are chosen."""
        return round(self.share * self.pool)


def benchmark(decoder: Decoder, data: Path, folder: Path, settings: SelectionSettings) -> dict[str, Any]:
    """Run the benchmark in `folder`, which the caller has claimed; a killed run goes on where it stopped."""
    found, checks, losses = [], [], []
    for seed in range(settings.seeds):
        world, test = mixed_world(data, settings, seed)
        leaks = audit(world.sides() | {"test": test})
        place, tuning = folder / f"seed-{seed}", replace(settings.tuning, seed=seed)
        warm_up = _random(len(world.pool), settings.budget, seed + 1000)
        rows = [world.pool[row] for row in warm_up]
        model, checkpoints = trained(decoder, rows, place / "model", tuning)
        own = tuning, seed, settings.backbone, settings.epochs, settings.teacher
        bench = Bench(decoder, model, checkpoints, rows, world, place, *own)
        found.append(all_methods(bench, settings.methods))
        checks.append(sanity_of(found[-1], world))
        losses.append(_all_losses(decoder, world, test, found[-1], place, settings, tuning))
    methods: dict[str, Any] = costs(found, world, settings.teacher)
    for name in methods:
        methods[name] |= _by_task(losses, f"{name}, {RULE}", settings)
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "settings": asdict(settings) | {"budget": settings.budget},
        "audit": leaks,
        "sanity": mean_sanity(checks),
        "methods": methods,
        "crossed": {
            name: {rule: _by_task(losses, f"{name}, {rule}", settings) for rule in RULES}
            for name in CROSSED
            if name in methods
        },
        "beside": {name: _by_task(losses, name, settings) for name in ("untouched", "all")},
        "skipped": left_out(bench),
    }


def mixed_world(data: Path, settings: SelectionSettings, seed: int) -> tuple[World, list[Example]]:
    """The world of one seed, its queries in the order of the tasks, and each task's test rows in that order."""
    rng = np.random.default_rng(seed)
    rows = shuffled(benign_chat(data), None, "benign_chat", rng)
    plain = shuffled(dolly(data), None, "dolly", rng)
    queries, test = [], []
    for task in settings.tasks:
        mine = [one for one in rows if one.metadata["genre"] == task]
        held = settings.queries + settings.test
        if len(mine) <= held:
            raise DataError(f"benign_chat: {len(mine)} rows of genre {task!r}, more than {held} are needed.")
        queries += mine[: settings.queries]
        test += mine[settings.queries : held]
    used = {one.id for one in (*queries, *test)}
    rest = [one for one in rows if one.id not in used]
    half, learnt = settings.pool // 2, settings.train_pool // 2
    parts = _cut(rest, half, learnt, settings.train_queries), _cut(plain, settings.pool - half, learnt, 0)
    pool, train_pool = ([*one, *other] for one, other in zip(parts[0][:2], parts[1][:2], strict=True))
    train_queries = parts[0][2]
    chats, dollies = rest[half + learnt + settings.train_queries :], plain[settings.pool - half + learnt :]
    asked, stated = settings.unlabelled
    unlabelled = chats[:asked], [*chats[asked : asked + stated // 2], *dollies[: stated - stated // 2]]
    orders = rng.permutation(len(pool)), rng.permutation(len(train_pool))
    pool, train_pool = [pool[row] for row in orders[0]], [train_pool[row] for row in orders[1]]
    cut_queries, cut_pool = len(train_queries) // 6, len(train_pool) // 6
    world = World(
        pool,
        queries,
        [task for task in settings.tasks for _ in range(settings.queries)],
        (train_queries[cut_queries:], train_pool[cut_pool:]),
        (train_queries[:cut_queries], train_pool[:cut_pool]),
        unlabelled=unlabelled,
    )
    return world, test


def _cut(rows: Sequence[Example], *counts: int) -> list[list[Example]]:
    if len(rows) < sum(counts):
        raise DataError(f"{len(rows)} different rows are left of a corpus, {sum(counts)} are needed.")
    starts = np.cumsum([0, *counts])
    return [list(rows[start : start + count]) for start, count in zip(starts, counts, strict=False)]


def _all_losses(
    decoder: Decoder,
    world: World,
    test: Sequence[Example],
    scored: Mapping[str, Scored],
    folder: Path,
    settings: SelectionSettings,
    tuning: FinetuneSettings,
) -> dict[str, Scores]:
    """By what was trained on: (tasks, test rows of a task) losses; untouched: before any training."""
    after: Callable[[Sequence[Example]], Scores] = partial(_losses_after, decoder, test, settings, tuning)
    kinds = np.array(world.kinds)
    wanted: dict[str, Callable[[str], Rows]] = {}
    for name, one in scored.items():
        for rule in RULES if name in CROSSED else (RULE,):
            wanted[f"{name}, {rule}"] = partial(_chosen, one.scores, kinds, RULES[rule], settings.budget)
    found: dict[str, Scores] = {}
    with progress("training on what was chosen", len(wanted) + 2) as advance:
        for name, rows in (("untouched", ()), ("all", world.pool)):
            found[name] = kept_scores(folder / "losses" / name, partial(after, rows))
            advance(1)
        for name, choose in wanted.items():
            places = folder / "losses" / name.replace("+", "-plus").replace(", ", "-")
            found[name] = kept_scores(places, partial(_per_task, choose, world, settings, after))
            advance(1)
    return found


def _chosen(scores: Scores, kinds: np.ndarray, rule: Callable[[Scores, int], Rows], budget: int, task: str) -> Rows:
    return rule(scores[kinds == task], budget)


def _per_task(
    choose: Callable[[str], Rows],
    world: World,
    settings: SelectionSettings,
    after: Callable[[Sequence[Example]], Scores],
) -> Scores:
    """Each task's row of the losses after training on what was chosen for it."""
    return np.stack(
        [after([world.pool[row] for row in choose(task)])[place] for place, task in enumerate(settings.tasks)]
    )


def _losses_after(
    decoder: Decoder,
    test: Sequence[Example],
    settings: SelectionSettings,
    tuning: FinetuneSettings,
    rows: Sequence[Example],
) -> Scores:
    """(tasks, test rows of a task) losses of the decoder fine-tuned on `rows`, as it was when there are none."""
    model = finetune(decoder, rows, tuning) if rows else decoder
    losses = measure_losses(model.model, batches_of(model, model.tokenise(test), TOKEN_BUDGET), len(test))
    return losses.reshape(len(settings.tasks), settings.test)


def _by_task(losses: Sequence[Mapping[str, Scores]], name: str, settings: SelectionSettings) -> dict[str, Any]:
    """A choice's test loss for each task and for all, and by how much it is below a random choice's, row by row."""
    mine, random = ([one[key] for one in losses] for key in (name, f"random, {RULE}"))
    gains = [other - one for one, other in zip(mine, random, strict=True)]
    return {
        key: {task: over_queries([one[place] for one in each]) for place, task in enumerate(settings.tasks)}
        | {"all": over_queries([one.ravel() for one in each])}
        for key, each in (("loss", mine), ("gain", gains))
    }


def _random(count: int, budget: int, seed: int) -> Rows:
    return np.sort(np.random.default_rng(seed).permutation(count)[:budget])
