"""How well does a teacher agree with itself, and what does more agreement cost?

    python scripts/measure/reliability.py --output-dir runs/reliability

Per-query Spearman of influences between every two of some seeds of the projections, and of each seed with the
layers' whole gradients, unprojected and unsketched; for LoRA-B gradients over ranks and sketch widths, for principal
directions over ranks. For teachers that learn a curvature: between samples of different size, drawn by the seed.

Progress goes to stderr, Markdown tables to stdout and results.md, a figure to reliability.svg.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from influcoder import __version__
from influcoder.benchmarks.corpora.facts_problem import read_facts
from influcoder.benchmarks.results.tables import markdown
from influcoder.data.examples import Example
from influcoder.demo.world import assets
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings

RANKS, WIDTHS = (8, 16, 32, 64, 128), (8192, 16384, 32768, 65536)
PRINCIPAL_RANKS = (8, 16, 32, 64)
CURVED, SAMPLES = ("logra", "lorif", "datainf", "trak", "rrinf", "gist", "ekfac", "trackstar"), (512,)
PLAIN = ("gradient-dot", "forward")


class Probe:
    """Some queries and pool rows, and the influences that teachers find between them."""

    def __init__(
        self, decoder: Decoder, queries: Sequence[Example], pool: Sequence[Example], learn_from: list[Example]
    ):
        self.decoder, self.queries, self.pool, self.learn_from = decoder, queries, pool, learn_from

    def influence(self, settings: TeacherSettings) -> tuple[np.ndarray, float, int]:
        """(influences, examples a second, bytes an example)."""
        teacher = make_teacher(self.decoder, settings)
        teacher.fit(self.learn_from, self.queries)
        began = time.perf_counter()
        sides = teacher.features(self.queries, "query").vectors, teacher.features(self.pool, "pool").vectors
        seconds = time.perf_counter() - began
        return sides[0] @ sides[1].T, (len(self.queries) + len(self.pool)) / seconds, teacher.bytes_per_example

    def measure(self, settings: TeacherSettings, seeds: Sequence[int], whole: np.ndarray | None) -> dict[str, Any]:
        """Agreement between seeds and with the whole gradients, with bootstrap intervals over queries."""
        found = [self.influence(replace(settings, seed=seed)) for seed in seeds]
        pairs = [spearman_rows(a, b) for (a, *_), (b, *_) in itertools.combinations(found, 2)]
        result = {
            "teacher": settings.name,
            "rank": settings.rank,
            "width": settings.width,
            "sample": settings.fit_examples,
            "between_seeds": with_interval(pairs),
            "examples_per_second": float(np.median([speed for _, speed, _ in found])),
            "bytes_per_example": found[0][2],
        }
        if whole is not None:
            result["with_whole"] = with_interval([spearman_rows(whole, one) for one, *_ in found])
        print(json.dumps(result), file=sys.stderr, flush=True)
        return result


def with_interval(rows: Sequence[np.ndarray]) -> dict[str, Any]:
    mean = np.mean(rows, axis=0)
    draws = np.random.default_rng(0).integers(len(mean), size=(400, len(mean)))
    return {"mean": float(mean.mean()), "interval_95": np.quantile(mean[draws].mean(axis=1), [0.025, 0.975]).tolist()}


def shown(one: dict[str, Any] | None) -> str:
    return "" if one is None else f"{one['mean']:.3f} [{one['interval_95'][0]:.3f}, {one['interval_95'][1]:.3f}]"


def table(results: Sequence[dict[str, Any]]) -> str:
    head = [
        "teacher",
        "rank",
        "width",
        "learnt from",
        "between seeds",
        "with whole gradients",
        "examples/s",
        "bytes/example",
    ]
    rows = [
        [
            one["teacher"],
            str(one["rank"]),
            f"{one['width']:,}" if one["width"] else "none",
            f"{one['sample']:,}" if one["teacher"] in (*CURVED, "logra-raw") else "",
            shown(one["between_seeds"]),
            shown(one.get("with_whole")),
            f"{one['examples_per_second']:.0f}",
            f"{one['bytes_per_example']:,}",
        ]
        for one in results
    ]
    return markdown(head, rows)


def figure(results: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "influcoder"
    from matplotlib import pyplot

    fig, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for width in WIDTHS:
        line = [one for one in results if one["teacher"] == "gradient-cosine" and one["width"] == width]
        means = np.array([one["between_seeds"]["mean"] for one in line])
        spread = np.abs(np.array([one["between_seeds"]["interval_95"] for one in line]).T - means)
        axes.errorbar([one["rank"] for one in line], means, spread, marker="o", capsize=2, label=f"{width:,} numbers")
    axes.axhline(0.95, color="0.6", linewidth=0.8, linestyle="--")
    axes.set_xscale("log", base=2)
    axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
    axes.set_xlabel("LoRA rank")
    axes.set_ylabel("per-query ρ between two seeds")
    axes.legend(title="sketch", frameon=False)
    fig.savefig(path, metadata={"Date": None})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, default=assets() / "decoder")
    parser.add_argument("--queries", type=int, default=24)
    parser.add_argument("--pool", type=int, default=72)
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    facts = read_facts()
    queries, pool = (
        [row for row in side if (row.metadata["split"], row.metadata["kind"]) == ("test", kind)][:count]
        for side, kind, count in ((facts.queries, "task", arguments.queries), (facts.pool, "dolly", arguments.pool))
    )
    learn_from = [row for row in facts.pool if row.id not in {held.id for held in pool}]
    probe = Probe(Decoder.load(arguments.decoder, max_length=512), queries, pool, learn_from)
    seeds = range(arguments.seeds)
    plain = TeacherSettings()
    whole, *_ = probe.influence(replace(plain, source="weights", width=0))
    results = [
        probe.measure(replace(plain, rank=rank, width=width), seeds, whole) for rank in RANKS for width in WIDTHS
    ]
    whole, *_ = probe.influence(replace(plain, source="weights", width=0, similarity="dot"))
    results += [
        probe.measure(TeacherSettings.named("logra-raw", rank=rank, fit_examples=512), seeds[:2], whole)
        for rank in PRINCIPAL_RANKS
    ]
    results += [probe.measure(TeacherSettings.named(name), seeds[:2], None) for name in PLAIN]
    results += [
        probe.measure(TeacherSettings.named(name, fit_examples=size), seeds[:2], None)
        for name in CURVED
        for size in SAMPLES
    ]
    facts = {"queries": len(queries), "pool": len(pool), "seeds": list(seeds), "package": __version__}
    (arguments.output_dir / "metrics.json").write_text(json.dumps(facts | {"results": results}, indent=2) + "\n")
    (arguments.output_dir / "results.md").write_text(table(results))
    figure(results, arguments.output_dir / "reliability.svg")
    print(table(results))


if __name__ == "__main__":
    main()
