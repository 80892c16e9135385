"""How good is a student at every cost? Students that run more or less of the decoder, side by side.

    python scripts/measure/dial.py --decoder DECODER --data DIR --output-dir runs/dial

BIG-Bench Hard questions on Dolly rows, as in `influcoder benchmark fidelity`: for every effort of
`influcoder.student.effort.DIAL` a student is distilled from the same gradients, and judged on unseen questions and rows
by per-query Spearman with the teacher, plain and with completion length taken out, asked as text and with the
question's own gradient. Its cost is the time it takes to read a row, as a share of the teacher's gradient of it,
measured before the student is distilled. An effort is on the frontier where no cheaper one agrees better.

A run that was stopped goes on where it was. metrics.json and a figure go to the output folder.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gradients import machine
from influcoder import __version__
from influcoder.benchmarks.results.tables import markdown
from influcoder.benchmarks.settings import Budget, FidelitySettings
from influcoder.benchmarks.tasks.fidelity import CorpusTask
from influcoder.benchmarks.tasks.fidelity_bench import FidelityBench
from influcoder.evaluation.scorers import Surface
from influcoder.maths.metrics import length_controlled_rows, spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.effort import DIAL, Effort
from influcoder.verbs.cost import seconds_a_row, seconds_of_gradient
from over_seeds import over_seeds

ASKED = ("text", "exact")
NUMBERS = ("per_query", "length_controlled")


def judged(truth: Any, scores: Any, lengths: Any) -> dict[str, float]:
    """Both numbers of some scores."""
    return {
        "per_query": float(spearman_rows(truth, scores).mean()),
        "length_controlled": float(length_controlled_rows(truth, scores, lengths).mean()),
    }


def measure(bench: FidelityBench, effort: Effort, gradient: float) -> dict[str, Any]:
    """Cost and agreement of an effort's student."""
    teacher, test, (train, validation) = bench.teacher(), bench.test, bench.samples()
    cost = seconds_a_row(effort, teacher, test.pool) / gradient
    expected = bench.parts.get("expected", lambda: expected_embeddings(bench.model))
    encoder = distill_static(
        backbone_of(bench.model),
        train,
        validation,
        ClosedFormRecipe(seed=bench.seed),
        expected=expected,
        effort=effort,
        decoder=bench.model,
        teacher=teacher,
    )
    rows, lengths = encoder.encode_pool(test.pool), np.array([len(row.completion) for row in test.pool])
    vectors = {
        "text": encoder.encode_query(test.queries),
        "exact": encoder.project_query(test.queries, test.query_features),
    }
    agreements = {asked: judged(test.influence, vector @ rows.T, lengths) for asked, vector in vectors.items()}
    return {"effort": asdict(effort), "name": str(effort), "cost": cost, "validation": encoder.measured} | agreements


def surface(bench: FidelityBench) -> dict[str, float]:
    """Eight simple counts, fitted to the same gradients."""
    test, lengths = bench.test, np.array([len(row.completion) for row in bench.test.pool])
    return judged(test.influence, Surface(bench.reader()).fit(*bench.samples()).score(test.queries, test.pool), lengths)


def run_seed(task: CorpusTask, seed: int, folder: Path) -> dict[str, Any]:
    """A seed's students, kept one by one."""
    kept = folder / f"seed-{seed}.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"efforts": {}}
    bench = task.bench(task.draw(seed), seed, folder / task.folder_name(seed))
    if "surface" not in found:
        bench.samples()
        found["surface"] = surface(bench)
    gradient = 0.0
    for effort in DIAL:
        if str(effort) in found["efforts"]:
            continue
        gradient = gradient or seconds_of_gradient(bench.teacher(), bench.test.pool)
        found["efforts"][str(effort)] = measured = measure(bench, effort, gradient)
        shown = {asked: round(measured[asked]["per_query"], 3) for asked in ASKED}
        print(f"seed {seed}: {effort}: {measured['cost']:.3f} of a gradient, {shown}", file=sys.stderr, flush=True)
        write_json(kept, found)
    return found


def summary(seeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each effort, cheapest first, with whether it is on the frontier."""
    lines = []
    for name, first in seeds[0]["efforts"].items():
        each = [seed["efforts"][name] for seed in seeds]
        numbers = {
            asked: {number: _over([one[asked][number] for one in each]) for number in NUMBERS} for asked in ASKED
        }
        lines.append({"name": name, "effort": first["effort"], "cost": _over([one["cost"] for one in each])} | numbers)
    lines.sort(key=lambda line: line["cost"]["mean"])
    for place, line in enumerate(lines):
        cheaper = [other["exact"]["per_query"]["mean"] for other in lines[:place]]
        line["frontier"] = all(line["exact"]["per_query"]["mean"] > value for value in cheaper)
    return lines


def _over(values: list[float]) -> dict[str, Any]:
    return over_seeds(values) if len(values) > 1 else {"mean": values[0], "seeds": values}


def table(lines: list[dict[str, Any]], beside: dict[str, Any]) -> str:
    """A row for each effort."""
    head = [
        "reads",
        "share of a gradient",
        *(f"{asked}: {name}" for asked in ASKED for name in ("ρ", "length-controlled")),
    ]
    rows = [
        [
            line["name"] + (" *" if line["frontier"] else ""),
            f"{line['cost']['mean']:.3f}",
            *(f"{line[asked][number]['mean']:.3f}" for asked in ASKED for number in NUMBERS),
        ]
        for line in lines
    ]
    rows.append(["surface", "", *(f"{beside[number]['mean']:.3f}" for number in NUMBERS), "", ""])
    return markdown(head, rows)


def figure(lines: list[dict[str, Any]], beside: dict[str, Any], path: Path) -> None:
    """Agreement against cost, the frontier as a line."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "influcoder"
    from matplotlib import pyplot

    fig, axes = pyplot.subplots(figsize=(7.2, 4.6), layout="constrained")
    least = 0.3 * min(line["cost"]["mean"] for line in lines if line["cost"]["mean"] > 0)
    best = [line for line in lines if line["frontier"]]
    axes.plot([max(least, line["cost"]["mean"]) for line in best], [_exact(line) for line in best], color="C0")
    for line in lines:
        place = max(least, line["cost"]["mean"]), _exact(line)
        axes.plot(*place, "o", color="C0" if line["frontier"] else "0.6")
        if line["frontier"]:
            side = {"xytext": (-6, 4), "ha": "right"} if line["cost"]["mean"] > 0 else {"xytext": (0, 8), "ha": "left"}
            axes.annotate(line["name"], place, textcoords="offset points", fontsize=8, **side)
    axes.plot([], [], "o", color="0.6", label="a cheaper one agrees as well")
    axes.axhline(beside["per_query"]["mean"], color="0.6", linestyle=":", label="surface")
    axes.set_xscale("log")
    axes.set_xlabel("cost of reading a row, as a share of a gradient (static: nearly nothing)")
    axes.set_ylabel("per-query ρ with the teacher, exact query")
    axes.legend(loc="upper left")
    fig.savefig(path, metadata={"Date": None})


def _exact(line: dict[str, Any]) -> float:
    return float(line["exact"]["per_query"]["mean"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--teacher", default="layer-cosine")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, nargs=2, default=(500, 1000), metavar=("QUERIES", "ROWS"))
    parser.add_argument("--test", type=int, nargs=2, default=(200, 400), metavar=("QUERIES", "ROWS"))
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    sizes = {"train_queries": arguments.train[0], "train_pool": arguments.train[1]}
    sizes |= {"test_queries": arguments.test[0], "test_pool": arguments.test[1], "more_queries": 0, "more_pool": 0}
    settings = FidelitySettings(teacher=arguments.teacher, corpora=("dolly",), budget=Budget(**sizes))
    decoder = Decoder.load(arguments.decoder, max_length=arguments.max_length)
    task = CorpusTask(decoder, settings, arguments.data, "dolly")
    seeds = [run_seed(task, seed, arguments.output_dir) for seed in range(arguments.seeds)]
    lines = summary(seeds)
    beside = {number: _over([seed["surface"][number] for seed in seeds]) for number in NUMBERS}
    config = sizes | {"decoder_parameters": decoder.fingerprint.decoder_parameters}
    config |= {name: getattr(arguments, name) for name in ("teacher", "max_length", "seeds")}
    record = {"version": __version__, "machine": machine("cpu"), "config": config, "surface": beside, "efforts": lines}
    write_json(arguments.output_dir / "metrics.json", record)
    figure(lines, beside, arguments.output_dir / f"{arguments.output_dir.name}.svg")
    print(table(lines, beside))


if __name__ == "__main__":
    main()
