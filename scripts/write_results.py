"""Write docs/results.md and docs/runs from the runs that `make results` left in runs/.

Every number on the page comes from a recorded run: its metrics.json is kept in docs/runs, with settings, seeds and
version.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "docs" / "runs"
sys.path.insert(0, str(ROOT / "scripts" / "measure"))

from contenders.agreement import TOLERANCE  # noqa: E402
from dial import table as dial_table  # noqa: E402
from few_questions import table as few_questions_table  # noqa: E402
from gradients import table as speed_table  # noqa: E402
from influcoder.benchmarks.methods.registry import TASK_METHODS  # noqa: E402
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
from scale_section import scale  # noqa: E402

HEAD = """# Results

Written by `make results`. Every table comes from a recorded run, whose numbers and settings are in `docs/runs`.
Intervals are 95 % bootstrap intervals over queries unless stated otherwise. Absolute speeds were measured on a shared
virtual machine with two cores and bf16 instructions: compare ratios.
"""


def causal(metrics: dict[str, Any]) -> str:
    quick = " (a quick run: its numbers are not worth keeping)" if metrics["quick"] else ""
    return f"""## What training does{quick}

`influcoder benchmark causal --decoder assets/decoder-base`. The base decoder is fine-tuned on a pool that states false
facts among look-alikes and Dolly rows. LDS: Spearman over retrained random halves of the pool between the sum of the
scores of a half's rows and the loss measured after training on it. One step: Spearman over pool rows between scores
and the change of the query's loss after one SGD step on the row. "Retraining twice" is the ceiling of LDS: how well the
losses of one retraining predict those of another with the same rows in another order. Speed: features on the fine-tuned
decoder, without what is learnt once, on one thread while up to four other processes shared the two cores: a rough hint.
How well each teacher agrees with itself is further down.

{causal_tables(metrics)}"""


def causal_layers(metrics: dict[str, Any]) -> str:
    return f"""## What training does, with a teacher in which every layer counts

`influcoder benchmark causal --decoder assets/decoder-base --teacher layer-cosine --subsets 30` with some of the
methods: the pool, queries and models above, half as many retrainings. `layer-cosine` is the mean over layers of their
gradients' cosines ([decision 16](decisions/0016-every-layer-counts.md)); students, surface and exact queries learn it.

{causal_tables(metrics)}"""


def fidelity(metrics: dict[str, Any]) -> str:
    return f"""## How faithfully students rank

`influcoder benchmark fidelity --decoder assets/decoder-base --data DIR`; the truth is gradient cosine of rank 64.
`exact` is the teacher with another seed: the ceiling. `exact-query`: the query's own gradient is known, as it is in
practice; `int8`: pool vectors of one byte per number. `short` reads the gradient of 80 tokens of a text, `forward` a
forward pass of the whole text. `static, 0.25 of the examples` learnt from a quarter of the queries and of the pool,
`static, 8 times the pool` from the same queries and the gradients of eight times as many pool rows, or all that a
corpus has; `from X` learnt on pool X. `static-from-short` learnt from the same gradients as `static`, and from the
short tier's labels of 2,000 further queries and 7,000 further pool rows, or all that a corpus has. The cascade of facts
re-scores the static tier's first 10 %. Times are for one core shared with other work. The paper's recipe is in the next
section: an earlier run on the same splits, seeds and teacher. The 80 tokens of `short` were chosen after 64 had been
tested on these same splits (.597, .678 and .957 with exact queries), not on validation.

Not yet reached: from text alone a student learns little from a thousand gradients, and more from eight thousand or from
the short tier's labels, and that curve is still rising; a shortlist of a quarter of the pool, from any tier, does not
keep 95 % of the exact top tenth on tasks. [The log](log.md) says why.

![Agreement against cost, and against the number of examples learnt from](runs/frontier.svg)

{fidelity_tables(metrics)}"""


def fidelity_with_paper(metrics: dict[str, Any]) -> str:
    return f"""## Beside the paper's recipe

`influcoder benchmark fidelity --decoder assets/decoder-base --data DIR --backbone MINILM`: the run of 2026-11-24,
before the short tier existed, when the final ridge solution had a basis of its own. Splits, seeds and teacher are those
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
once in each round, in turn. Ratios are to MiniLM in plain float32: the median of the rounds, and the lowest.

{markdown(["tier", "examples/s", "x MiniLM", "lowest"], rows)}"""


def causal_mixed(metrics: dict[str, Any]) -> str:
    return f"""## What training does to a mixed pool, summed as trainers do

`influcoder benchmark causal --decoder src/influcoder/demo/decoder --data DIR --reduction sum --seeds 1 --subsets 40
--stepped 24 --max-length 192`. The demo's decoder, fine-tuned on Dolly, twelve genres and facts with the mean over the
tokens of a batch, as `Trainer` does: a row counts by its tokens, so a dot product should too
([decision 21](decisions/0021-how-a-loss-is-reduced.md)).

{causal_tables(metrics)}"""


def toxicity(metrics: dict[str, Any]) -> str:
    return f"""## Few unsafe examples in a benign pool

`influcoder benchmark toxicity --decoder assets/decoder-base --data DIR --backbone MINILM`. DATE-LM's protocol: the
decoder is fine-tuned on Dolly rows with less than 1 % unsafe answers of XSTest among them; every method ranks the
pool by its mean score for unsafe references of JailbreakBench. Heterogeneous: refusals of XSTest's unsafe requests are
ranked too; homogeneous: they are left out of the ranking (one model was trained on both). Students learn from other
sources. `influcoder-static-from-short` also learns from the short tier's labels of further rows of those sources.
AUPRC is DATE-LM's trapezoid; AP is average precision, which does not overrate few positives. Intervals: unsafe and
other rows are resampled separately for each seed. An earlier run of half the size is in [the log](log.md).
Students learn rds+ here, a teacher of hidden states: of gradient-cosine, layer-cosine and rds+ it was the best on
other pools, hidden rows and references than these (AUPRC .087, .154, .173), but it was chosen only after the test
scores of layer-cosine's students had been seen for one seed ([the log](log.md)). The short tier reads such texts whole,
so it is a compressed form of its teacher; students of gradients are in the next section. There are only 24 unsafe rows:
most intervals overlap.

{not_reached(metrics, "AUPRC, heterogeneous", lambda one: one["heterogeneous"]["auprc"]["mean"])}

{toxicity_tables(metrics)}"""


def toxicity_of_gradients(metrics: dict[str, Any]) -> str:
    return f"""## The same from gradients

As above, with `--teacher layer-cosine`: our students learn from gradients. The same models, pools and references.

{not_reached(metrics, "AUPRC, heterogeneous", lambda one: one["heterogeneous"]["auprc"]["mean"])}

{toxicity_tables(metrics)}"""


def counterfact(metrics: dict[str, Any]) -> str:
    return f"""## Which rows taught a false fact

`influcoder benchmark counterfact --decoder assets/decoder-base --data DIR --backbone MINILM`. The decoder learns true
facts, then false ones. A row is relevant, as in DATE-LM, when it replaces the same true object by the same false one.
`substitution`: no row states the subject that is asked about, but rows state other subjects of the same replacement;
`statement`: three rows state it in other words. Look-alikes: the question itself with the true object; subject and
false object together in a prompt, which carries no loss; the false object for subjects of another true one. Students
learn from other subjects and other pairs, `influcoder-static-from-short` also from the short tier's labels of further
ones.

{not_reached(metrics, "MRR over all questions", lambda one: one["all"]["mrr"]["mean"], ("tfidf", "bm25"))}

{counterfact_tables(metrics)}"""


def selection(metrics: dict[str, Any]) -> str:
    left = [name for name in TASK_METHODS if name not in {*metrics["methods"], *metrics["skipped"]}]
    measured = f"\n\nNot measured on this pool: {', '.join(left)}." if left else ""
    return f"""## Which rows to train on for a task

`influcoder benchmark selection --decoder assets/decoder-base --data DIR --backbone MINILM`. 5 % of a pool of Dolly rows
and benign_chat's genres are chosen for a genre, by a few of its rows; the original decoder is fine-tuned on them and
its loss measured on other rows of the genre. The pool has 17 to 26 rows of math and 4 to 9 of paraphrase. Gradients are
those of a decoder warmed up on a random 5 %. A choice is one training run, so a gain has the noise of training on few
rows. Students learn from other rows of the mixture, `influcoder-static-from-short` also from the short tier's labels of
further ones. Speeds here are of a machine without bf16 that did other work.{measured}

{not_reached(metrics, "gain over a random choice", lambda one: one["gain"]["all"]["mean"], ("tfidf", "randomised"))}

{selection_tables(metrics)}"""


def few_questions(metrics: dict[str, Any]) -> str:
    unseen = metrics["unseen"]
    return f"""## How many real questions an encoder needs

`python scripts/measure/few_questions.py --data DIR --decoder src/influcoder/demo/decoder`: a static encoder learns
{metrics["teacher"]} from some BIG-Bench Hard questions and {metrics["pool"]} Dolly rows, with and without these rows
in the role of questions ([decision 19](decisions/0019-few-questions.md)). Per-query ρ with the teacher on
{unseen["queries"]} unseen questions x {unseen["pool"]} unseen rows; means of {metrics["seeds"]} seeds with 95 %
intervals over seeds (Student's t).

{few_questions_table(metrics["results"])}
![Agreement against the number of real questions](runs/few-questions.svg)
"""


def dial(metrics: dict[str, Any]) -> str:
    config = metrics["config"]
    learnt, unseen = (f"{config[f'{part}_queries']} x {config[f'{part}_pool']}" for part in ("train", "test"))
    millions = config["decoder_parameters"] / 1e6
    return f"""## How good a student is at every cost: a decoder of {millions:.0f}M parameters

`python scripts/measure/dial.py`: students that run more or less of the decoder (`influcoder.student.effort`), which
`distill --cost` chooses from. Teacher {config["teacher"]}, BIG-Bench Hard on Dolly, {config["max_length"]} tokens of
a text at most, {learnt} to learn from, {unseen} unseen; seeds: {config["seeds"]}. Cost is the time
that reading a row takes, as a share of the teacher's gradient of it. `*`: no cheaper student agrees better (query asked
with its own gradient).

{dial_table(metrics["efforts"], metrics["surface"])}
![Agreement against cost](runs/{"dial-smollm2" if millions > 100 else "dial-demo"}.svg)
"""


def reliability(metrics: dict[str, Any]) -> str:
    queries, pool, seeds = metrics["queries"], metrics["pool"], len(metrics["seeds"])
    return f"""## How well a teacher agrees with itself

`python scripts/measure/reliability.py`: {queries} queries, {pool} pool rows, {seeds} seeds (two where something is
learnt from a sample). Speeds here are of one thread while other work ran; better ones are above. No student can agree
with its teacher better than the teacher agrees with itself.

![Agreement of two seeds against rank and sketch width](runs/reliability.svg)

{reliability_table(metrics["results"])}"""


def speed(metrics: dict[str, Any]) -> str:
    config = metrics["config"]
    name, rank, examples = config["workload"], config["rank"], config["examples"]
    return f"""## Speed of per-example gradients: {name}, {config["parameters"] / 1e6:.1f}M parameters

`python scripts/measure/gradients.py --workload {name}` on {metrics["machine"]}. The same LoRA-B gradients (rank {rank})
of the same {examples} examples; agreement is the largest difference of cosines from the float32 loop. Ratios are
medians over rounds, with the lowest and highest; a contender in bf16 is compared with bergson in bf16, and with the
float32 loop. One that differs by more than {TOLERANCE["float32"]:g} (in bf16 {TOLERANCE["bf16"]:g}) would not be timed.

{speed_table(metrics["contenders"])}
"""


SECTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "fidelity": fidelity,
    "fidelity-with-paper": fidelity_with_paper,
    "tiers": tiers,
    "causal": causal,
    "causal-layers": causal_layers,
    "causal-mixed-demo": causal_mixed,
    "toxicity": toxicity,
    "toxicity-gradients": toxicity_of_gradients,
    "counterfact": counterfact,
    "selection": selection,
    "few-questions": few_questions,
    "dial-smollm2": dial,
    "dial-demo": dial,
    "scale": scale,
    "reliability": reliability,
    "speed-demo": speed,
    "speed-30m": speed,
}


def page() -> str:
    """The page, from the records that are kept."""
    records = {name: RUNS / f"{name}.json" for name in SECTIONS}
    parts = [make(json.loads(records[name].read_text())) for name, make in SECTIONS.items() if records[name].exists()]
    return "\n".join([HEAD, *parts])


def main() -> None:
    RUNS.mkdir(exist_ok=True)
    for name in SECTIONS:
        new = ROOT / "runs" / name / "metrics.json"
        if new.exists():
            shutil.copy(new, RUNS / f"{name}.json")
    for picture in (ROOT / "runs").glob("*/*.svg"):
        shutil.copy(picture, RUNS / picture.name)
    (ROOT / "docs" / "results.md").write_text(page())


if __name__ == "__main__":
    main()
