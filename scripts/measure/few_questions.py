"""How much do few questions teach, and how much do pool rows in their role add?

    python scripts/measure/few_questions.py --data DATA --decoder DECODER --output-dir runs/few-questions

BIG-Bench Hard questions on Dolly rows (`influcoder.benchmarks.corpora`): a static encoder is distilled from 1 to 100
real questions, with and without pool rows in the role of queries, and judged by its per-query Spearman with the teacher
on unseen questions and unseen rows; as text, and with the question's own gradient. Fewer than four questions cannot be
distilled without pool rows.

Each seed draws other questions and rows. Its gradients and its results are kept in the output folder: a run that was
stopped goes on there. Progress goes to stderr; metrics.json and few-questions.svg to the output folder.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from influcoder import __version__
from influcoder.benchmarks.corpora.corpora import bbh, dolly, shuffled
from influcoder.benchmarks.results.tables import markdown
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.few_questions import FEW, split_with_pool_rows
from influcoder.student.sample import Sample, split_sample
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from over_seeds import over_seeds

COUNTS = (1, 3, 10, 30, 100)
LEAST_ALONE = 4
WAYS = {"questions": "the questions alone", "with_pool_rows": "and pool rows in their role"}
ASKED = {"text": "asked as text", "exact": "asked with its gradient"}


def gradients(decoder: Decoder, arguments: argparse.Namespace, seed: int) -> tuple[Sample, Sample]:
    """(what there is to learn from, unseen questions and rows)."""
    rng = np.random.default_rng(seed)
    queries = shuffled(bbh(arguments.data), max(COUNTS) + arguments.unseen_queries, "bbh", rng)
    pool = shuffled(dolly(arguments.data), arguments.pool + arguments.unseen_pool, "dolly", rng)
    kept = arguments.output_dir / f"gradients-{seed}.npz"
    if not kept.exists():
        teacher = make_teacher(decoder, TeacherSettings.named(arguments.teacher))
        began = time.perf_counter()
        sides = [teacher.features(queries, "query").vectors, teacher.features(pool, "pool").vectors]
        np.savez(kept, queries=sides[0].astype(np.float16), pool=sides[1].astype(np.float16))
        told = f"seed {seed}: {len(queries) + len(pool)} gradients in {time.perf_counter() - began:.0f} s"
        print(told, file=sys.stderr, flush=True)
    with np.load(kept) as file:
        vectors = {name: file[name].astype(np.float32) for name in ("queries", "pool")}
    first, last = max(COUNTS), arguments.pool
    return (
        Sample(queries[:first], pool[:last], vectors["queries"][:first], vectors["pool"][:last]),
        Sample(queries[first:], pool[last:], vectors["queries"][first:], vectors["pool"][last:]),
    )


def measure(decoder: Decoder, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Per-query ρ by way, way of asking, and number of questions; None where it cannot be distilled."""
    kept = arguments.output_dir / f"seed-{seed}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    whole, unseen = gradients(decoder, arguments, seed)
    backbone, expected = backbone_of(decoder), expected_embeddings(decoder)
    found: dict[str, Any] = {way: {asked: [] for asked in ASKED} for way in WAYS}
    for count in COUNTS:
        questions = Sample(whole.queries[:count], whole.pool, whole.query_features[:count], whole.pool_features)
        for way in WAYS:
            if way == "questions" and count < LEAST_ALONE:
                for asked in ASKED:
                    found[way][asked].append(None)
                continue
            split = (
                split_sample(questions, seed)
                if way == "questions"
                else split_with_pool_rows(questions, (whole.pool, whole.pool_features), seed)
            )
            encoder = distill_static(backbone, *split, ClosedFormRecipe(seed=seed), expected=expected)
            rows = encoder.encode_pool(unseen.pool)
            vectors = {
                "text": encoder.encode_query(unseen.queries),
                "exact": encoder.project_query(unseen.queries, unseen.query_features),
            }
            for asked, vector in vectors.items():
                found[way][asked].append(float(spearman_rows(unseen.influence, vector @ rows.T).mean()))
            told = {asked: round(values[-1], 3) for asked, values in found[way].items()}
            print(f"seed {seed}: {count} {WAYS[way]}: {told}", file=sys.stderr, flush=True)
    write_json(kept, found)
    return found


def summary(seeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each way, way of asking and number of questions."""
    return [
        {"questions": count, "way": way, "asked": asked} | over_seeds([one[way][asked][place] for one in seeds])
        for way in WAYS
        for asked in ASKED
        for place, count in enumerate(COUNTS)
        if seeds[0][way][asked][place] is not None
    ]


def table(results: list[dict[str, Any]]) -> str:
    """A row for each number of questions."""
    columns = [(way, asked) for asked in ASKED for way in WAYS]
    cells = {
        (one["questions"], one["way"], one["asked"]): "{:.2f} ({:.2f} to {:.2f})".format(
            one["mean"], *one["interval_95"]
        )
        for one in results
    }
    rows = [[str(count), *(cells.get((count, *column), "refused") for column in columns)] for count in COUNTS]
    return markdown(["real questions", *(f"{ASKED[asked]}: {WAYS[way]}" for way, asked in columns)], rows)


def figure(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "influcoder"
    from matplotlib import pyplot

    fig, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for asked, colour in zip(ASKED, ("C1", "C0"), strict=True):
        for way, line in zip(WAYS, ("--", "-"), strict=True):
            points = [one for one in results if (one["way"], one["asked"]) == (way, asked)]
            beside = 1 + 0.03 * (2 * (asked == "exact") + (way == "questions"))  # intervals that do not hide each other
            counts, means = [one["questions"] * beside for one in points], [one["mean"] for one in points]
            spread = [max(one["interval_95"]) - one["mean"] for one in points]
            style: dict[str, Any] = {"color": colour, "linestyle": line, "marker": "o", "capsize": 2}
            axes.errorbar(counts, means, spread, label=f"{ASKED[asked]}: {WAYS[way]}", **style)
    axes.axvline(FEW, color="0.7", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.set_xlabel("real questions to learn from")
    axes.set_ylabel("per-query ρ on unseen questions")
    fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    fig.savefig(path, metadata={"Date": None})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--decoder", required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--teacher", default="layer-cosine")
    parser.add_argument("--pool", type=int, default=600)
    parser.add_argument("--unseen-queries", type=int, default=100)
    parser.add_argument("--unseen-pool", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    decoder = Decoder.load(arguments.decoder, max_length=512)
    results = summary([measure(decoder, arguments, seed) for seed in range(arguments.seeds)])
    facts = {
        "package": __version__,
        "teacher": arguments.teacher,
        "decoder_parameters": decoder.fingerprint.decoder_parameters,
        "pool": arguments.pool,
        "unseen": {"queries": arguments.unseen_queries, "pool": arguments.unseen_pool},
        "seeds": arguments.seeds,
    }
    write_json(arguments.output_dir / "metrics.json", facts | {"results": results})
    figure(results, arguments.output_dir / "few-questions.svg")


if __name__ == "__main__":
    main()
