"""Which rows do gradients and an encoder choose, and do they choose as well when the model has moved on?

    python scripts/measure/chosen_rows.py --output-dir runs/chosen-rows

The task of `live.py`: validation queries ask what is said of half of the people of the demo's world, and some rows of
the pool say it in other words. Each way keeps a fifth of the pool, by the highest standard score of any query; told is
the share of the kept rows that say what is asked, at the demo's decoder, and after it was trained on rows of the pool:

    exact                 gradients of every row
    text                  an encoder, distilled before, that reads the queries
    gradient              the same, asked by the queries' gradients at that state
    refreshed             the encoder after a refresh from a fifth of the gradients, asked by them too

Progress goes to stderr; chosen-rows.json to the output folder.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import influcoder
from influcoder import __version__
from influcoder.attribution.orders import Order
from influcoder.demo.world import assets
from influcoder.live.callback import standard_scores
from influcoder.maths.arrays import Floats, unit_rows
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of_later
from influcoder.verbs.refresh import refresh
from live import KEPT, SAMPLE, losses, task
from over_seeds import over_seeds
from refresh import parse

TRAINING = {"epochs": 1, "learning_rate": 5e-4, "rows_a_step": 8}


def best(rows: Floats, queries: Floats) -> Any:
    """The row numbers that are kept, the best first."""
    return Order.of(standard_scores(queries @ rows.T), "max").rows[: round(KEPT * len(rows))]


def measure(seed: int, folder: Path) -> dict[str, dict[str, float]]:
    """By state of the model: the target's loss, and the share of right rows by way."""
    parts, rng = task(seed), np.random.default_rng(seed)
    pool, asked = parts["pool"], parts["validation"]
    people = {one.metadata["person"] for one in asked}
    right = np.array([one.metadata["kind"] == "planted" and one.metadata["person"] in people for one in pool])
    base = Decoder.load(assets() / "decoder", max_length=512)
    sample = [pool[place] for place in rng.permutation(len(pool))[: SAMPLE[1]]]
    features = influcoder.features(base, parts["queries"], sample, folder / "features")
    encoder = influcoder.distill(features, folder / "encoder", seed=seed)
    vectors = unit_rows(encoder.encode_pool(pool))
    order = rng.permutation(len(pool))
    gradients = teacher_of_later(encoder, base).features(asked, "query").vectors
    kept = best(vectors, encoder.project_query(asked, gradients))
    states = {
        "before": [],
        "80 rows": order[:80],
        "160 rows": order[:160],
        "80 of the kept": rng.permutation(kept)[:80],
    }
    found: dict[str, dict[str, float]] = {}
    for state, rows in states.items():
        later = finetune(base, [pool[row] for row in rows], FinetuneSettings(**TRAINING)) if len(rows) else base
        teacher = teacher_of_later(encoder, later)
        gradients = teacher.features(asked, "query").vectors
        ways = {
            "exact": best(teacher.features(pool, "pool").vectors, gradients),
            "text": best(vectors, encoder.encode_query(asked)),
            "gradient": best(vectors, encoder.project_query(asked, gradients)),
        }
        if len(rows):
            place = folder / state.replace(" ", "-")
            refresh(encoder, features, later, Folder(place), seed=seed)
            fresh = InfluenceEncoder.load(place)
            ways["refreshed"] = best(unit_rows(fresh.encode_pool(pool)), fresh.project_query(asked, gradients))
        found[state] = {way: float(right[chosen].mean()) for way, chosen in ways.items()}
        found[state]["loss"] = float(losses(later, parts["target"]).mean())
        print(f"seed {seed}: {state}: {found[state]}", file=sys.stderr, flush=True)
    found["chance"] = {"right": float(right.mean()), "most": float(right.sum() / len(kept))}
    return found


def main() -> None:
    arguments, seeds = parse(__doc__), []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            seeds.append(measure(seed, Path(folder)))
    states = {
        state: {way: over_seeds([one[state][way] for one in seeds]) for way in seeds[0][state]} for state in seeds[0]
    }
    facts = {"package": __version__, "teacher": "gradient-cosine", "kept": KEPT, "seeds": arguments.seeds}
    write_json(arguments.output_dir / "chosen-rows.json", facts | {"states": states})


if __name__ == "__main__":
    main()
