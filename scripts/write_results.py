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
sys.path.insert(0, str(ROOT / "benchmarks"))

from gradients import table as speed_table  # noqa: E402
from reliability import table as reliability_table  # noqa: E402

from influcoder.benchmarks.tables import causal_tables, fidelity_tables  # noqa: E402

HEAD = """# Results

Made by `make results`; every table is of one recorded run, whose numbers, settings and version are in
[runs](runs). Intervals are 95 % bootstrap intervals over queries unless said otherwise. Absolute speeds are of a
shared virtual machine with two cores and bf16 instructions; ratios are what counts.
"""


def causal(metrics: dict[str, Any]) -> str:
    quick = " (a quick run, no number of which is worth keeping)" if metrics["quick"] else ""
    return f"""## What training does{quick}

`influcoder benchmark causal --decoder assets/decoder-base`. The base decoder is fine-tuned on a pool that states false
facts among look-alikes and Dolly rows. LDS: Spearman over retrained random halves of the pool between the sum of the
scores of a half's rows and the loss that was measured after training on it. One step: Spearman over pool rows between
scores and what one SGD step on the row did to the query's loss. "Retraining twice" is the ceiling of LDS: how well the
losses of one retraining predict those of another with the same rows in another order. Speed is
of features on the fine-tuned decoder, without what is learnt once. How well each teacher agrees with itself is in the
next section.

{causal_tables(metrics)}"""


def fidelity(metrics: dict[str, Any]) -> str:
    return f"""## How faithfully students rank

`influcoder benchmark fidelity --decoder assets/decoder-base --data DIR --backbone MINILM`; truth: gradient cosine of
rank 64. `exact` is the teacher with another seed: the ceiling. `exact-query`: the query's own gradient is known, as it
is in practice; `int8`: pool vectors of one byte a number. `static, 0.25 of the examples` learnt from a quarter of the
queries and of the pool; `from X` learnt on pool X. The cascade of the facts re-scores the static tier's first 10 %.
Times of the first call, on one core; the paper's encoder goes through our fast path.

What is short of what we want: the forward tier closes about a fifth of the gap between text and teacher, and a
shortlist of a quarter of the pool keeps half of the exact top tenth on tasks; why is in [the log](log.md).

![Agreement against cost, and against how much is learnt](runs/frontier.svg)

{fidelity_tables(metrics)}"""


def reliability(metrics: dict[str, Any]) -> str:
    queries, pool, seeds = metrics["queries"], metrics["pool"], len(metrics["seeds"])
    return f"""## How well a teacher agrees with itself

`python benchmarks/reliability.py`: {queries} queries, {pool} pool rows, {seeds} seeds (two where something is
learnt from a sample). Speeds here are of one thread beside other work: compare those above. No student can be more
faithful than its teacher is to itself.

![Agreement of two seeds against rank and sketch width](runs/reliability.svg)

{reliability_table(metrics["results"])}"""


def speed(metrics: dict[str, Any]) -> str:
    config = metrics["config"]
    name, rank, examples = config["workload"], config["rank"], config["examples"]
    return f"""## Speed of per-example gradients: {name}, {config["parameters"] / 1e6:.1f}M parameters

`python benchmarks/gradients.py --workload {name}` on {metrics["machine"]}. The same LoRA-B gradients (rank {rank})
of the same {examples} examples; agreement is the largest difference of cosines from the float32 loop. Ratios are
medians over rounds, with the lowest and highest.

{speed_table(metrics["contenders"])}
"""


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "fidelity": fidelity,
    "causal": causal,
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
