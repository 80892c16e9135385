"""Write docs/results.md and docs/runs from the runs that `make results` left in runs/.

Every number of the page comes from a recorded run: its metrics.json is kept beside, with settings, seeds and
version.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "measure"))

from contenders.agreement import TOLERANCE  # noqa: E402
from gradients import table as speed_table  # noqa: E402
from influcoder.benchmarks.results.tables import (  # noqa: E402
    causal_tables,
    counterfact_tables,
    fidelity_tables,
    markdown,
    not_reached,
    selection_tables,
    toxicity_tables,
)
from reliability import table as reliability_table  # noqa: E402

HEAD = """# Results

Made by `make results`; every table is of a recorded run, whose numbers and settings are in [runs](runs). Intervals are
95 % bootstrap intervals over queries unless said otherwise. Absolute speeds are of a shared virtual machine with two
cores and bf16 instructions; ratios are what counts.
"""


def causal(metrics: dict[str, Any]) -> str:
    quick = " (a quick run, no number of which is worth keeping)" if metrics["quick"] else ""
    return f"""## What training does{quick}

`influcoder benchmark causal --decoder assets/decoder-base`. The base decoder is fine-tuned on a pool that states false
facts among look-alikes and Dolly rows. LDS: Spearman over retrained random halves of the pool between the sum of the
scores of a half's rows and the loss that was measured after training on it. One step: Spearman over pool rows between
scores and what one SGD step on the row did to the query's loss. "Retraining twice" is the ceiling of LDS: how well the
losses of one retraining predict those of another with the same rows in another order. Speed is of features on the
fine-tuned decoder, without what is learnt once, of one thread with up to four other processes on two cores: a hint at
most. How well each teacher agrees with itself stands further down.

{causal_tables(metrics)}"""


def causal_layers(metrics: dict[str, Any]) -> str:
    return f"""## What training does, and a teacher in which every layer counts

`influcoder benchmark causal --decoder assets/decoder-base --teacher layer-cosine --subsets 30` with some of the
methods: the world and the models above, half as many retrainings. `layer-cosine` is the mean over layers of their
gradients' cosines ([decision 16](decisions/0016-every-layer-counts.md)); students, surface and exact queries are of it.

{causal_tables(metrics)}"""


def fidelity(metrics: dict[str, Any]) -> str:
    return f"""## How faithfully students rank

`influcoder benchmark fidelity --decoder assets/decoder-base --data DIR`; truth: gradient cosine of rank 64. `exact` is
the teacher with another seed: the ceiling. `exact-query`: the query's own gradient is known, as it is in practice;
`int8`: pool vectors of one byte a number. `short` reads the gradient of 80 tokens of a text, `forward` a forward
pass of all of it. `static, 0.25 of the examples` learnt from a quarter of the queries and of the pool, `static, 8 times
the pool` from the same queries and eight times as many pool rows' gradients, as far as a corpus goes; `from X` learnt
on pool X. `static-from-short` learnt from no more gradients than `static`, and from what the short tier says of 2,000
further queries and 7,000 further pool rows, as far as a corpus goes. The cascade of the facts re-scores the static
tier's first 10 %. Times on one core beside other work. The paper's recipe stands in the next section: an earlier run on
the same splits, seeds and teacher. That `short` reads 80 tokens was settled after 64 were tested on these very splits
(.597, .678 and .957 with exact queries), not on validation.

What is short of what we want: text alone learns little from a thousand gradients, more from eight thousand or from the
short tier's labels, with no end in sight of that curve; a shortlist of a quarter of the pool, from any tier, does not
keep 95 % of the exact top tenth on tasks; why is in [the log](log.md).

![Agreement against cost, and against how much is learnt](runs/frontier.svg)

{fidelity_tables(metrics)}"""


def fidelity_with_paper(metrics: dict[str, Any]) -> str:
    return f"""## Beside the paper's recipe

`influcoder benchmark fidelity --decoder assets/decoder-base --data DIR --backbone MINILM`: the run of 2026-11-24,
before there was a short tier and with a final solution in a basis of its own. Splits, seeds and teacher are those
above.

{fidelity_tables(metrics)}"""


def tiers(metrics: dict[str, Any]) -> str:
    ratios = metrics["ratio_to_plain_float32"]
    rows = [
        [name, f"{speed:,.0f}", f"{ratios[name]['median']:.1f}", f"{ratios[name]['least']:.1f}"]
        for name, speed in metrics["examples_per_second_one_core"].items()
    ]
    return f"""## Speed of the tiers

`python scripts/measure/tiers.py --data DIR --run runs/fidelity --backbone MINILM`: Dolly rows on one core, every tier
once in each round, in turn. Times are against MiniLM in plain float32: the median of the rounds, and the least.

{markdown(["tier", "examples/s", "x MiniLM", "least"], rows)}"""


def toxicity(metrics: dict[str, Any]) -> str:
    return f"""## Few unsafe examples in a benign pool

`influcoder benchmark toxicity --decoder assets/decoder-base --data DIR --backbone MINILM`. DATE-LM's protocol: the
decoder is fine-tuned on Dolly rows with less than 1 % unsafe answers of XSTest among them; every method ranks the
pool by its mean score for unsafe references of JailbreakBench. Heterogeneous: refusals of XSTest's unsafe requests are
ranked too; homogeneous: they are left out of the ranking (one model saw both). Students learn from other sources.
`influcoder-static-from-short` learns from the short tier's labels of further rows of those sources too.
AUPRC is DATE-LM's trapezoid; AP is average precision, which does not flatter few positives. Intervals: unsafe and
other rows drawn again, apart, for each seed. An earlier run of half the size is in [the log](log.md).
What students learn here is rds+, a teacher of hidden states: of gradient-cosine, layer-cosine and rds+ the best on
other pools, hidden rows and references than these (AUPRC .087, .154, .173), but turned to only after one seed's test
scores of layer-cosine's students had been seen ([the log](log.md)). The short tier reads all of such short texts,
so it is its teacher in few numbers; students of gradients stand in the next section. There are 24 unsafe rows in all:
most intervals overlap.

{not_reached(metrics, "AUPRC, heterogeneous", lambda one: one["heterogeneous"]["auprc"]["mean"])}

{toxicity_tables(metrics)}"""


def toxicity_of_gradients(metrics: dict[str, Any]) -> str:
    return f"""## The same from gradients

As above, with `--teacher layer-cosine`: ours learn from gradients. The same models, pools and references.

{not_reached(metrics, "AUPRC, heterogeneous", lambda one: one["heterogeneous"]["auprc"]["mean"])}

{toxicity_tables(metrics)}"""


def counterfact(metrics: dict[str, Any]) -> str:
    return f"""## Which rows taught a false fact

`influcoder benchmark counterfact --decoder assets/decoder-base --data DIR --backbone MINILM`. The decoder learns true
facts, then false ones. A row is relevant, as in DATE-LM, when it replaces the same true object by the same false one.
`substitution`: the subject that is asked about is stated nowhere, other subjects of the same replacement are;
`statement`: it is stated three times in other words. Look-alikes: the question itself with the true object; subject and
false object together in a prompt, where no loss is; the false object for subjects of another true one. Students learn
from other subjects and other pairs, `influcoder-static-from-short` from the short tier's labels of further ones too.

{not_reached(metrics, "MRR over all questions", lambda one: one["all"]["mrr"]["mean"], ("tfidf", "bm25"))}

{counterfact_tables(metrics)}"""


def selection(metrics: dict[str, Any]) -> str:
    return f"""## Which rows to train on for a task

`influcoder benchmark selection --decoder assets/decoder-base --data DIR --backbone MINILM`. 5 % of a pool of Dolly rows
and benign_chat's genres are chosen for a genre, from a few of its rows; the decoder as it was is fine-tuned on them and
its loss measured on other rows of the genre. Gradients are of a decoder warmed up on a random 5 %. One choice costs one
training, so a gain has the noise of training on few rows. Students learn from other rows of the mixture,
`influcoder-static-from-short` from the short tier's labels of further ones too.

{not_reached(metrics, "gain over a random choice", lambda one: one["gain"]["all"]["mean"])}

{selection_tables(metrics)}"""


def reliability(metrics: dict[str, Any]) -> str:
    queries, pool, seeds = metrics["queries"], metrics["pool"], len(metrics["seeds"])
    return f"""## How well a teacher agrees with itself

`python scripts/measure/reliability.py`: {queries} queries, {pool} pool rows, {seeds} seeds (two where something is
learnt from a sample). Speeds here are of one thread beside other work: compare those above. No student can be more
faithful than its teacher is to itself.

![Agreement of two seeds against rank and sketch width](runs/reliability.svg)

{reliability_table(metrics["results"])}"""


def speed(metrics: dict[str, Any]) -> str:
    config = metrics["config"]
    name, rank, examples = config["workload"], config["rank"], config["examples"]
    return f"""## Speed of per-example gradients: {name}, {config["parameters"] / 1e6:.1f}M parameters

`python scripts/measure/gradients.py --workload {name}` on {metrics["machine"]}. The same LoRA-B gradients (rank {rank})
of the same {examples} examples; agreement is the largest difference of cosines from the float32 loop. Ratios are
medians over rounds, with the lowest and highest; a contender in bf16 is held against bergson in bf16, and against the
float32 loop. One that differs by more than {TOLERANCE["float32"]:g} (in bf16 {TOLERANCE["bf16"]:g}) would not be timed.

{speed_table(metrics["contenders"])}
"""


def scale(metrics: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{one['rows']:,}",
            str(one["dim"]),
            f"{one['seconds']:.0f}",
            f"{one['rows_per_second']:,.0f}",
            f"{one['peak_memory_mb']:,.0f}",
            f"{one['peak_memory_of_one_process_mb']:,.0f}",
            f"{(one['vector_bytes'] + one['column_bytes']) / 1e6:,.0f}",
        ]
        for name, one in metrics["indexes"].items()
    ]
    codes = [
        [name, f"{one['bytes']}", f"{one['recall_at_10']:.3f}", f"{one['per_query_spearman']:.4f}"]
        for name, one in metrics["search"]["codes"].items()
    ]
    scan, search, teacher = metrics["scan"], metrics["search"], metrics["teacher"]
    ms = {name: 1000 * seconds for name, seconds in scan["seconds"].items()}
    ratio, ivf = scan["ratio_to_read"], search["ivf_pq"]
    *before, (probes, recall) = sorted((int(lists), value) for lists, value in ivf["recall_at_10"].items())
    fewer = ", ".join(f"{lists}: {value:.3f}" for lists, value in before)
    largest = max(one["rows"] for one in metrics["indexes"].values())
    times = metrics["times_faster_than_teacher_extrapolated"]
    return f"""## A million documents

`python scripts/measure/scale.py --data DIR`, with {metrics["cores"]} processes. Documents of real length, made of
sentences of real rows. `narrow`: the static tier's 64 spectral numbers in int8; `whole`: its identity channels too.
Memory is the largest sum over the processes at once, what they share counted once; beside it the largest of one
process.

{markdown(["index", "rows", "dim", "s", "rows/s", "peak memory MB", "of one process", "on disk MB"], rows)}

The exact teacher does {teacher["examples_per_second"]:.0f} of the same documents a second on the same cores, at
{teacher["bytes_per_example"]:,} bytes a row: **{times:.0f} times** as long for the same job (extrapolated from
{teacher["examples"]} of them).

![Time, memory, and exact search beside reading memory](runs/scale.svg)

Exact search of {scan["rows"]:,} x 64 random int8 numbers takes {ms["search"]:.0f} ms a query, reading the same
bytes from memory {ms["read"]:.0f} ms: {ratio["median"]:.2f} times (rounds from {ratio["least"]:.2f} to
{ratio["most"]:.2f}). 64 queries at once take {ms["search of 64"]:.0f} ms.

Of {largest:,} documents: exact search {search["exact_ms_per_query"]:.1f} ms a query of 64 at once, with a filter
{search["filtered_ms_per_query"]:.1f} ms. {ivf["kind"]}, {ivf["bytes"]} bytes a row, made in
{ivf["seconds_to_make"]:.0f} s: {ivf["ms_per_query"]:.1f} ms at recall@10 {recall:.3f} with {probes} lists searched
(fewer lists: {fewer or "-"}). What codes keep of the rankings of 4,096 documents:

{markdown(["code", "bytes", "recall@10", "per query ρ"], codes)}"""


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "fidelity": fidelity,
    "fidelity-with-paper": fidelity_with_paper,
    "tiers": tiers,
    "causal": causal,
    "causal-layers": causal_layers,
    "toxicity": toxicity,
    "toxicity-gradients": toxicity_of_gradients,
    "counterfact": counterfact,
    "selection": selection,
    "scale": scale,
    "reliability": reliability,
    "speed-demo": speed,
    "speed-30m": speed,
}


def main() -> None:
    kept = ROOT / "docs" / "runs"
    kept.mkdir(exist_ok=True)
    for name in SECTIONS:
        new = ROOT / "runs" / name / "metrics.json"
        if new.exists():
            shutil.copy(new, kept / f"{name}.json")
    for picture in (ROOT / "runs").glob("*/*.svg"):
        shutil.copy(picture, kept / picture.name)
    found = {name: kept / f"{name}.json" for name in SECTIONS}
    parts = [make(json.loads(found[name].read_text())) for name, make in SECTIONS.items() if found[name].exists()]
    (ROOT / "docs" / "results.md").write_text("\n".join([HEAD, *parts]))


if __name__ == "__main__":
    main()
