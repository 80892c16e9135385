"""The benchmarks as verbs: a folder out, its numbers in `metrics.json` and its tables in `results.md` there."""

from dataclasses import asdict, replace
from typing import Any

from influcoder import __version__
from influcoder.atomic import atomic_write, write_json
from influcoder.benchmarks.causal import CausalSettings, causal
from influcoder.benchmarks.tables import causal_tables
from influcoder.benchmarks.worlds import demo_world, own_world
from influcoder.decoder import Decoder
from influcoder.errors import ConfigError
from influcoder.finetune import FinetuneSettings
from influcoder.folder import Folder
from influcoder.reading import read_examples

FINETUNE = FinetuneSettings(epochs=2, learning_rate=2e-4, rows_a_step=16)
"""far enough that the pool is learnt, and not by heart: see docs/log.md"""

LEAST_POOL = 4
"""examples that EK-FAC is learnt from"""


def benchmark_causal(
    decoder: Decoder,
    folder: Folder,
    pool: list[str] | None = None,
    queries: list[str] | None = None,
    *,
    subsets: int = 60,
    seeds: int = 3,
    quick: bool = False,
) -> dict[str, Any]:
    """Run `influcoder.benchmarks.causal` on files of examples, or on the demo's.

    Raises:
        ConfigError: only one of `pool` and `queries` is given, or too little of something.
    """
    if (pool is None) != (queries is None):
        raise ConfigError("give --pool and --queries, or neither for the demo's.")
    world = own_world(read_examples(pool), read_examples(queries)) if pool and queries else demo_world(quick)
    if quick:
        settings = CausalSettings(seeds=1, subsets=4, stepped=4, finetune=replace(FINETUNE, epochs=1))
    else:
        settings = CausalSettings(seeds=seeds, subsets=subsets, finetune=FINETUNE)
    if len(world.pool) < LEAST_POOL:
        raise ConfigError(f"the pool has {len(world.pool)} examples, expected at least {LEAST_POOL}: give more --pool.")
    with folder.claim() as path:
        facts = {
            "package": __version__,
            "quick": quick,
            "decoder": decoder.fingerprint,
            "settings": asdict(settings),
        }
        metrics = causal(decoder, world, path, settings) | facts
        write_json(path / "metrics.json", metrics)
        atomic_write(path / "results.md", causal_tables(metrics).encode())
    return metrics
