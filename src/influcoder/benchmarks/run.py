"""The benchmarks as verbs: a folder out, its numbers in `metrics.json` and its tables in `results.md` there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from influcoder.benchmarks.corpora.corpora import Budget
from influcoder.benchmarks.corpora.facts import FactBudget
from influcoder.benchmarks.corpora.worlds import demo_world, own_world
from influcoder.benchmarks.methods.bench import EXACT
from influcoder.benchmarks.methods.registry import METHODS, chosen
from influcoder.benchmarks.results.frontier import frontier
from influcoder.benchmarks.results.tables import causal_tables, fidelity_tables
from influcoder.benchmarks.results.task_tables import (
    counterfact_tables,
    paper_tables,
    selection_tables,
    toxicity_tables,
)
from influcoder.benchmarks.tasks.causal import CausalSettings, causal
from influcoder.benchmarks.tasks.counterfact import CounterfactSettings
from influcoder.benchmarks.tasks.counterfact import benchmark as counterfact
from influcoder.benchmarks.tasks.fidelity import fidelity
from influcoder.benchmarks.tasks.fidelity_students import CORPORA, MORE_POOL, MORE_QUERIES, FidelitySettings
from influcoder.benchmarks.tasks.paper import PaperSettings
from influcoder.benchmarks.tasks.paper import benchmark as paper
from influcoder.benchmarks.tasks.selection import SelectionSettings
from influcoder.benchmarks.tasks.selection import benchmark as selection
from influcoder.benchmarks.tasks.toxicity import UNSAFE_TEACHER, ToxicitySettings
from influcoder.benchmarks.tasks.toxicity import benchmark as toxicity
from influcoder.data.reading import read_examples
from influcoder.errors import ConfigError
from influcoder.extras import require
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings
from influcoder.store.files import atomic_write, write_json
from influcoder.store.output_folder import Folder
from influcoder.version import __version__

FINETUNE = FinetuneSettings(epochs=2, learning_rate=2e-4, rows_a_step=16)
"""far enough that the pool is learnt, and not by heart: see docs/log.md"""

QUICK_BUDGET = Budget(train_queries=40, train_pool=60, test_queries=12, test_pool=40)

LEAST_POOL = 4
"""examples that EK-FAC is learnt from"""


def benchmark_fidelity(
    decoder: Decoder,
    folder: Folder,
    data: Path,
    *,
    backbone: str | None = None,
    teacher: str = EXACT,
    corpora: Sequence[str] = CORPORA,
    more_queries: int = MORE_QUERIES,
    more_pool: int = MORE_POOL,
    seeds: int = 3,
    quick: bool = False,
) -> dict[str, Any]:
    """Run `influcoder.benchmarks.tasks.fidelity` on the corpora in `data`."""
    named, budget = tuple(dict.fromkeys(corpora)), Budget(more_queries=more_queries, more_pool=more_pool)
    settings = FidelitySettings(seeds, budget, backbone=backbone, corpora=named, teacher=teacher)
    if quick:
        settings = replace(settings, seeds=1, budget=QUICK_BUDGET, shares=(0.5,), epochs=1)

    def run(path: Path) -> dict[str, Any]:
        found = fidelity(decoder, data, path, settings)
        atomic_write(path / "frontier.svg", frontier(found))
        return found

    return _finished(decoder, folder, quick, run, fidelity_tables)


def benchmark_causal(
    decoder: Decoder,
    folder: Folder,
    pool: list[str] | None = None,
    queries: list[str] | None = None,
    *,
    methods: Sequence[str] | None = None,
    teacher: str = EXACT,
    subsets: int = 60,
    seeds: int = 3,
    quick: bool = False,
) -> dict[str, Any]:
    """Run `influcoder.benchmarks.tasks.causal` on files of examples, or on the demo's.

    Raises:
        ConfigError: only one of `pool` and `queries` is given, or too little of something.
    """
    if (pool is None) != (queries is None):
        raise ConfigError("give --pool and --queries, or neither for the demo's.")
    world = own_world(read_examples(pool), read_examples(queries)) if pool and queries else demo_world(quick)
    compared = chosen(tuple(METHODS) if methods is None else methods, teacher)
    settings = CausalSettings(seeds, subsets, finetune=FINETUNE, methods=compared, teacher=teacher)
    if quick:
        settings = replace(settings, seeds=1, subsets=4, stepped=4, finetune=replace(FINETUNE, epochs=1))
    if len(world.pool) < LEAST_POOL:
        raise ConfigError(f"the pool has {len(world.pool)} examples, expected at least {LEAST_POOL}: give more --pool.")

    def run(path: Path) -> dict[str, Any]:
        return causal(decoder, world, path, settings) | {"settings": asdict(settings)}

    return _finished(decoder, folder, quick, run, causal_tables)


def benchmark_toxicity(
    decoder: Decoder,
    folder: Folder,
    data: Path,
    *,
    backbone: str | None = None,
    methods: Sequence[str] | None = None,
    teacher: str = UNSAFE_TEACHER,
    benign: int = 808,
    seeds: int = 3,
    quick: bool = False,
) -> dict[str, Any]:
    """Run `influcoder.benchmarks.tasks.toxicity` on the corpora in `data`."""
    compared = chosen(methods, teacher)
    settings = ToxicitySettings(
        seeds=seeds, benign=benign, tuning=FINETUNE, backbone=backbone, methods=compared, teacher=teacher
    )
    if quick:
        settings = replace(settings, seeds=1, benign=101, references=4, tuning=replace(FINETUNE, epochs=1), epochs=1)
        settings = replace(settings, train_queries=18, train_pool=48, unlabelled=24)
    return _finished(decoder, folder, quick, lambda path: toxicity(decoder, data, path, settings), toxicity_tables)


def benchmark_counterfact(
    decoder: Decoder,
    folder: Folder,
    data: Path,
    *,
    backbone: str | None = None,
    methods: Sequence[str] | None = None,
    teacher: str = EXACT,
    seeds: int = 3,
    quick: bool = False,
) -> dict[str, Any]:
    """Run `influcoder.benchmarks.tasks.counterfact` on the corpus in `data`."""
    compared = chosen(methods, teacher)
    settings = CounterfactSettings(seeds=seeds, backbone=backbone, methods=compared, teacher=teacher)
    if quick:
        test, train, unlabelled = FactBudget(2, 4, 1, 3), FactBudget(3, 4, 2, 5), FactBudget(1, 4, 1, 2)
        settings = replace(settings, seeds=1, test=test, train=train, unlabelled=unlabelled, epochs=1, learnt=(18, 48))
    return _finished(
        decoder, folder, quick, lambda path: counterfact(decoder, data, path, settings), counterfact_tables
    )


def benchmark_selection(
    decoder: Decoder,
    folder: Folder,
    data: Path,
    *,
    backbone: str | None = None,
    methods: Sequence[str] | None = None,
    teacher: str = EXACT,
    tasks: Sequence[str] = ("math", "paraphrase"),
    rows: int = 240,
    seeds: int = 3,
    quick: bool = False,
) -> dict[str, Any]:
    """Run `influcoder.benchmarks.tasks.selection` on the corpora in `data`."""
    compared = chosen(methods, teacher)
    settings = SelectionSettings(seeds, tuple(tasks), rows, backbone=backbone, methods=compared, teacher=teacher)
    if quick:
        tuning = replace(settings.tuning, epochs=1)
        settings = replace(settings, seeds=1, pool=60, share=0.1, queries=3, test=6, tuning=tuning, epochs=1)
        settings = replace(settings, train_queries=18, train_pool=48, unlabelled=(12, 24))
    return _finished(decoder, folder, quick, lambda path: selection(decoder, data, path, settings), selection_tables)


def benchmark_paper(
    decoder: Decoder, folder: Folder, data: Path, backbones: Sequence[str], *, seeds: int = 3, quick: bool = False
) -> dict[str, Any]:
    """Run `influcoder.benchmarks.tasks.paper` on BIG-Bench Hard and Dolly."""
    settings = PaperSettings(tuple(backbones), seeds)
    if quick:
        settings = PaperSettings(tuple(backbones), 1, QUICK_BUDGET, epochs=1)
    return _finished(decoder, folder, quick, lambda path: paper(decoder, data, path, settings), paper_tables)


def _finished(
    decoder: Decoder,
    folder: Folder,
    quick: bool,
    run: Callable[[Path], dict[str, Any]],
    tables: Callable[[Mapping[str, Any]], str],
) -> dict[str, Any]:
    """What `run` measures in the claimed folder, written there as numbers and as tables."""
    require("bm25s", "matplotlib", "psutil", "sklearn")  # what rivals and figures need, before hours of work
    with folder.claim() as path:
        metrics = run(path) | {"package": __version__, "quick": quick, "decoder": asdict(decoder.fingerprint)}
        write_json(path / "metrics.json", metrics)
        atomic_write(path / "results.md", tables(metrics).encode())
    return metrics
