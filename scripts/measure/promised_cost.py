"""Does an encoder cost what `distill --cost` promised? Shares of a gradient: promised from a probe, and taken.

    python scripts/measure/promised_cost.py --decoder DECODER --data DIR --output-dir runs/promised-cost

For every effort that the dial has (`influcoder.student.effort.DIAL`): what `distill --cost` would promise, measured on
the rows that it learns from; and what an encoder of it then takes to read other rows, as a share of what the teacher's
gradients of the same rows take, one after the other. Questions of BIG-Bench Hard, rows of Dolly; a seed draws both.
"""

import argparse
import sys
from pathlib import Path
from timeit import timeit
from typing import Any

import numpy as np

from gradients import machine
from influcoder import __version__
from influcoder.benchmarks.corpora.corpora import bbh, dolly, shuffled
from influcoder.benchmarks.results.tables import markdown
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.effort import STATIC
from influcoder.student.sample import Sample, split_sample
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs.cost import cheap_enough

LEARN_FROM = (60, 150)
"""questions and rows: enough for an encoder that runs, its agreement is not looked at"""


def measure(decoder: Decoder, data: Path, unseen: int, seed: int, expected: Any) -> dict[str, dict[str, float]]:
    """By effort, what was promised and what it took."""
    rng = np.random.default_rng(seed)
    queries = shuffled(bbh(data), LEARN_FROM[0], "bbh", rng)
    pool = shuffled(dolly(data), LEARN_FROM[1] + unseen, "dolly", rng)
    pool, rows = pool[: LEARN_FROM[1]], pool[LEARN_FROM[1] :]
    teacher = make_teacher(decoder, TeacherSettings.named("layer-cosine"))
    vectors = [teacher.features(queries, "query").vectors, teacher.features(pool, "pool").vectors]
    train, validation = split_sample(Sample(queries, pool, *vectors), seed=seed)
    found = {}
    for effort, promised in cheap_enough(1.0, teacher, pool).items():
        if effort == STATIC:
            continue
        recipe, parts = ClosedFormRecipe(seed=seed), {"expected": expected, "decoder": decoder, "teacher": teacher}
        encoder = distill_static(backbone_of(decoder), train, validation, recipe, effort=effort, **parts)
        reading = timeit(lambda encoder=encoder: encoder.encode_pool(rows), number=1)  # type: ignore[misc]
        took = reading / timeit(lambda: teacher.features(rows, "pool"), number=1)
        found[str(effort)] = {"promised": promised, "took": took}
        print(f"seed {seed}: {effort}: promised {promised:.3f}, took {took:.3f}", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--unseen", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    decoder = Decoder.load(arguments.decoder, max_length=arguments.max_length)
    expected = expected_embeddings(decoder)
    seeds = [measure(decoder, arguments.data, arguments.unseen, seed, expected) for seed in range(arguments.seeds)]
    config = {name: getattr(arguments, name) for name in ("max_length", "unseen", "seeds")}
    config["decoder_parameters"] = decoder.fingerprint.decoder_parameters
    record = {"version": __version__, "machine": machine("cpu"), "config": config, "seeds": seeds}
    write_json(arguments.output_dir / "metrics.json", record)
    lines = []
    for name in seeds[0]:
        each = [(seed[name]["promised"], seed[name]["took"]) for seed in seeds if name in seed]
        ratios = ", ".join(f"{took / promised:.2f}" for promised, took in each)
        lines.append([name, *(f"{np.mean(side):.3f}" for side in zip(*each, strict=True)), ratios])
    print(markdown(["reads", "promised", "took", "took / promised, by seed"], lines))


if __name__ == "__main__":
    main()
