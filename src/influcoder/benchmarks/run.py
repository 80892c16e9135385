"""The benchmarks by name: a folder out, with the numbers in `metrics.json` and the tables in `results.md`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from influcoder.benchmarks.results.tables import (
    causal_tables,
    counterfact_tables,
    fidelity_tables,
    paper_tables,
    selection_tables,
    toxicity_tables,
)
from influcoder.benchmarks.settings import BenchmarkSettings
from influcoder.benchmarks.tasks.causal import Causal
from influcoder.benchmarks.tasks.counterfact import Counterfact
from influcoder.benchmarks.tasks.fidelity import Fidelity
from influcoder.benchmarks.tasks.paper import Paper
from influcoder.benchmarks.tasks.selection import Selection
from influcoder.benchmarks.tasks.toxicity import Toxicity
from influcoder.extras import require
from influcoder.model.decoder import Decoder
from influcoder.store.files import atomic_write, write_json
from influcoder.store.output_folder import Folder
from influcoder.version import __version__

Tables = Callable[[Mapping[str, Any]], str]
TASKS: dict[str, tuple[Callable[..., Any], Tables]] = {
    "causal": (Causal.of_files, causal_tables),
    "fidelity": (Fidelity, fidelity_tables),
    "toxicity": (Toxicity, toxicity_tables),
    "counterfact": (Counterfact, counterfact_tables),
    "selection": (Selection, selection_tables),
    "paper": (Paper, paper_tables),
}


def run_benchmark(
    name: str, decoder: Decoder, settings: BenchmarkSettings, folder: Folder, *, quick: bool = False, **inputs: Any
) -> tuple[dict[str, Any], str]:
    """Run a benchmark; gives its metrics and its tables, and writes both.

    Args:
        name: one of `TASKS`.
        quick: run the small sizes of the settings.
        inputs: `data`, the folder of the corpora; for causal `pool` and `queries`, files of examples or None.

    Raises:
        ConfigError: a method or a teacher does not exist, or there is too little of something.
        MissingDependency: what rivals and figures need is not installed; raised before hours of work.
    """
    require("bm25s", "matplotlib", "psutil", "sklearn")
    make, tables = TASKS[name]
    task = make(decoder, settings.quick() if quick else settings, **inputs)
    with folder.claim() as path:
        metrics = task.run(path) | {"package": __version__, "quick": quick, "decoder": asdict(decoder.fingerprint)}
        report = tables(metrics)
        write_json(path / "metrics.json", metrics)
        atomic_write(path / "results.md", report.encode())
    return metrics, report
