"""How fast each tier embeds, side by side on one core, and whether the fast transformer path changes its rankings.

    python scripts/measure/tiers.py --data DIR --run runs/fidelity --backbone MODEL --output-dir runs/tiers

DIR holds the corpora, --run is what `influcoder benchmark fidelity` left there. Each repeat runs every tier once, in
turn, on rows that it has not seen in that repeat's order; medians, and ratios to the plain float32 backbone.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from influcoder.benchmarks.corpora.corpora import dolly
from influcoder.data.examples import plain_text
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.store.files import write_json
from influcoder.student.backbone import Embedder, sentence_transformer
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder

REPEATS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "run", "output-dir"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--decoder", default="assets/decoder-base")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    rows = dolly(arguments.data)[:2000]
    decoder = Decoder.load(arguments.decoder, max_length=512)
    backbone = sentence_transformer(arguments.backbone)
    fast = Embedder(backbone)
    static, forward, short = (
        InfluenceEncoder.load(arguments.run / f"benign_chat-0/encoders/{tier}", decoder=decoder)
        for tier in ("static", "forward", "short")
    )
    few, texts = rows[:96], [plain_text(one) for one in rows[:96]]
    contenders = {
        "tokenizer alone": (
            lambda: static.reader.tokens([part for one in rows for part in (one.prompt, one.completion)]),
            rows,
        ),
        "static": (lambda: static.encode_pool(rows), rows),
        "forward": (lambda: forward.encode_pool(few), few),
        "short": (lambda: short.encode_pool(few), few),
        "transformer": (lambda: fast(texts), few),
        "transformer, plain float32": (
            lambda: backbone.encode(texts, normalize_embeddings=True, show_progress_bar=False),
            few,
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(REPEATS + 1):
        for name, (work, read) in contenders.items():
            began = time.perf_counter()
            work()
            if repeat:  # the first warms up
                times[name].append((time.perf_counter() - began) / len(read))
    speeds = {name: 1 / statistics.median(each) for name, each in times.items()}
    plain = times["transformer, plain float32"]
    found = {
        "examples_per_second_one_core": speeds,
        "ratio_to_plain_float32": {
            name: {"median": statistics.median(r := [p / t for p, t in zip(plain, each, strict=True)]), "least": min(r)}
            for name, each in times.items()
        },
        "transformer_loss": losses(arguments.run),
    }
    write_json(arguments.output_dir / "metrics.json", found)
    print(found)


def losses(run: Path) -> dict[str, float]:
    """Per-query ρ of the paper's encoder in float32 minus that of the fast path, by place."""
    found = {}
    for place in sorted(path.parents[1] for path in run.glob("*/encoders/paper-recipe")):
        test = FeaturesFolder(place / "features" / "test").sample
        scores = {}
        for precision in ("fp32", "auto"):
            encoder = InfluenceEncoder.load(place / "encoders" / "paper-recipe")
            encoder.settings["precision"] = precision
            scores[precision] = encoder.encode_query(test.queries) @ encoder.encode_pool(test.pool).T
        plain, fast = (float(np.mean(spearman_rows(test.influence, scores[one]))) for one in ("fp32", "auto"))
        found[place.name] = plain - fast
    return found


if __name__ == "__main__":
    main()
