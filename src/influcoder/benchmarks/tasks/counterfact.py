"""`influcoder benchmark counterfact`: which rows taught a decoder a false fact?

A decoder that has learnt the true facts is fine-tuned on false ones among look-alikes (see `corpora.facts`), and
every method ranks the pool for questions that the model now answers falsely. Recall@50 and mean reciprocal rank as
DATE-LM defines them. That the relevant rows did teach, and the look-alikes did not, is measured: the false object's
loss before, after, and after the same training without the relevant rows.

Students learn from other facts: no subject in common with pool and questions, and no pair of objects asked about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora import datelm, hub
from influcoder.benchmarks.corpora.facts import FactBudget, FactSource, taught_by
from influcoder.benchmarks.methods.bench import EXACT, Bench, World
from influcoder.benchmarks.methods.registry import TASK_METHODS, Scored, all_methods, kept_scores, left_out
from influcoder.benchmarks.methods.trained import kept_decoder, trained
from influcoder.benchmarks.results.audit import audit
from influcoder.benchmarks.results.estimates import costs, over_queries
from influcoder.benchmarks.results.sanity import mean_sanity, sanity_of
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.evaluation.scorers import Scores
from influcoder.maths.metrics import retrieval_rows
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, batches_of, finetune, measure_losses

K = 50
STAGES = ("before", "after", "after, without the rows that state it")
TOKEN_BUDGET = 4096


@dataclass(frozen=True, slots=True)
class CounterfactSettings:
    """How many facts there are, and how they are taught.

    Attributes:
        seeds: draws of everything, models and methods.
        test: facts of the pool and the questions.
        train: facts that students learn from; a quarter as many more choose between models.
        unlabelled: facts that a student may label; the decoder was not taught them.
        knowing, tuning: how the true facts are taught, then the false ones.
        backbone, epochs: of the paper's recipe.
        methods: that are compared.
        teacher: that students learn from.
        learnt: queries and pool rows that students learn from where DATE-LM's own set is tested.
    """

    seeds: int = 3
    test: FactBudget = field(default_factory=FactBudget)
    train: FactBudget = field(default_factory=lambda: FactBudget(pairs=4, statements=5, asked=2, singles=10))
    unlabelled: FactBudget = field(default_factory=lambda: FactBudget(pairs=64, statements=5, asked=2, singles=160))
    knowing: FinetuneSettings = field(default_factory=lambda: FinetuneSettings(4, 1e-3, 16))
    tuning: FinetuneSettings = field(default_factory=lambda: FinetuneSettings(2, 8e-4, 16))
    backbone: str | None = None
    epochs: int = 8
    methods: tuple[str, ...] = TASK_METHODS
    teacher: str = EXACT
    learnt: tuple[int, int] = (300, 1500)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds is {self.seeds}, expected at least 1.")


def benchmark(decoder: Decoder, data: Path, folder: Path, settings: CounterfactSettings) -> dict[str, Any]:
    """Run the benchmark in `folder`, which the caller has claimed; a killed run goes on where it stopped."""
    found, checks, taught, worlds = [], [], [], []
    for seed in range(settings.seeds):
        world, knowledge = fact_world(data, settings, seed)
        leaks = _audited(world, knowledge)
        place = folder / f"seed-{seed}"
        knowing, tuning = (replace(one, seed=seed) for one in (settings.knowing, settings.tuning))
        known = decoder
        if knowledge:
            known = kept_decoder(place / "known", partial(finetune, decoder, knowledge, knowing))
        model, checkpoints = trained(known, world.pool, place / "model", tuning)
        own = tuning, seed, settings.backbone, settings.epochs, settings.teacher
        bench = Bench(known, model, checkpoints, world.pool, world, place, *own)
        found.append(all_methods(bench, settings.methods))
        checks.append(sanity_of(found[-1], world))
        taught.append(kept_scores(place / "losses", partial(_losses, known, model, world, tuning)))
        worlds.append(world)
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "settings": asdict(settings),
        "audit": leaks,
        "sanity": mean_sanity(checks),
        "taught": _taught(taught, worlds),
        "methods": _measured(found, worlds, settings.teacher),
        "skipped": left_out(bench),
    }


def fact_world(data: Path, settings: CounterfactSettings, seed: int) -> tuple[World, list[Example]]:
    """The world of one seed, and the true facts that the decoder is taught first; none for DATE-LM's own set."""
    if datelm.names(data, hub.COUNTERFACT):
        return datelm.fact_world(data, *settings.learnt, seed), []
    source = FactSource(data, np.random.default_rng(seed))
    budgets = settings.test, settings.train, settings.train.of(0.25), settings.unlabelled
    test, train, validation, other = map(source.draw, budgets)
    kinds = [str(one.metadata["kind"]) for one in test.queries]
    learnt_from = (train.queries, train.pool), (validation.queries, validation.pool)
    world = World(test.pool, test.queries, kinds, *learnt_from, unlabelled=(other.queries, other.pool))
    return world, [*test.knowledge, *train.knowledge, *validation.knowledge]


def _audited(world: World, knowledge: Sequence[Example]) -> dict[str, Any]:
    """No text on two sides; no subject of the questions or the pool where students learn."""
    sides = world.sides() | {"knowledge": knowledge}
    together = [(f"{split}pool", f"{split}queries") for split in ("", "train ", "validation ", "unlabelled ")]
    together += [("knowledge", name) for name in sides]
    return audit(sides, apart=lambda example: str(example.metadata["subject"]), together=together)


def _losses(known: Decoder, model: Decoder, world: World, tuning: FinetuneSettings) -> Scores:
    """(stages, n_queries) losses of the questions' false objects."""
    others = np.flatnonzero(~taught_by(world.queries, world.pool).any(axis=0)).tolist()
    # In DATE-LM's own set every row is relevant to some question: nothing is left to train on.
    without = finetune(known, [world.pool[place] for place in others], tuning) if others else known
    tokens = model.tokenise(world.queries)
    return np.stack(
        [
            measure_losses(one.model, batches_of(one, tokens, TOKEN_BUDGET), len(tokens))
            for one in (known, model, without)
        ]
    )


def _taught(losses: Sequence[Scores], worlds: Sequence[World]) -> dict[str, dict[str, Any]]:
    return {
        kind: {
            stage: over_queries([one[place, rows] for one, rows in zip(losses, _rows(worlds, kind), strict=True)])
            for place, stage in enumerate(STAGES)
        }
        for kind in _kinds(worlds)
    }


def _measured(found: Sequence[Mapping[str, Scored]], worlds: Sequence[World], teacher: str) -> dict[str, Any]:
    methods: dict[str, Any] = costs(found, worlds[0], teacher)
    relevant = [taught_by(world.queries, world.pool) for world in worlds]
    for name in methods:
        measured = [retrieval_rows(one[name].scores, each, K) for one, each in zip(found, relevant, strict=True)]
        for place, key in enumerate((f"recall_at_{K}", "mrr")):
            rows = {kind: _rows(worlds, kind) for kind in _kinds(worlds)}
            rows["all"] = [np.ones(len(world.queries), bool) for world in worlds]
            for kind, chosen in rows.items():
                values = [one[place][which] for one, which in zip(measured, chosen, strict=True)]
                methods[name].setdefault(kind, {})[key] = over_queries(values)
    return methods


def _kinds(worlds: Sequence[World]) -> list[str]:
    return sorted(set(worlds[0].kinds))


def _rows(worlds: Sequence[World], kind: str) -> list[np.ndarray]:
    return [np.array(world.kinds) == kind for world in worlds]
