"""What does a refresh cost, and what does it give back? The demo's decoder is fine-tuned further on other rows.

    python scripts/measure/refresh.py --output-dir runs/refresh

An encoder is distilled at the demo's decoder from two thirds of the rows about some people; the decoder is fine-tuned
on the rows about the other people, gently and strongly. On the last third, with the moved decoder's own gradients, it
is measured how well rankings agree with the teacher's, per-query Spearman:

    old      the encoder as it is
    refresh  `distill --from` with some share of the gradients computed anew
    anew     an encoder of nothing but that share

and what `drift` says, at the decoder of before and at the moved one, by how many gradients. Each seed draws other rows
and fine-tunes in another order. Progress goes to stderr; refresh.json and refresh.svg to the output folder.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import influcoder
from influcoder import __version__
from influcoder.demo.world import DemoWorld, assets
from influcoder.errors import DataError
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of_later
from influcoder.student.sample import Sample, split_sample
from influcoder.verbs.refresh import refresh

SHARES = (0.05, 0.1, 0.2, 0.5)
MOVES = {"gently": 1e-4, "strongly": 1e-3}
"""learning rates of the fine-tuning"""
WAYS = ("refresh", "anew")


def drawn(seed: int) -> dict[str, tuple[list[Any], list[Any]]]:
    """(queries, pool rows) to learn from and to judge by, and the rows that the decoder moves on."""
    world, rng = DemoWorld.load(), np.random.default_rng(seed)
    parts: dict[str, list[list[Any]]] = {"sample": [], "test": []}
    for side in (world.queries, world.pool):
        rows = [one for one in side if one.metadata["split"] != "test"]
        order = [rows[place] for place in rng.permutation(len(rows))]
        cut = 2 * len(order) // 3
        parts["sample"].append(order[:cut])
        parts["test"].append(order[cut:])
    others = [one for one in world.pool if one.metadata["split"] == "test"]
    return {name: (sides[0], sides[1]) for name, sides in parts.items()} | {"others": ([], others)}


def measure(base: Decoder, seed: int, move: str, folder: Path) -> dict[str, Any]:
    """Fidelities by way and share, and what drift says."""
    rows = drawn(seed)
    began = time.perf_counter()
    features = influcoder.features(base, *rows["sample"], folder / "features")
    first = time.perf_counter() - began
    encoder = influcoder.distill(features, folder / "encoder", seed=seed)
    settings = FinetuneSettings(2, MOVES[move], 16, seed=seed, token_budget=1024)
    moved = finetune(base, rows["others"][1], settings)
    teachers = {"then": features.teacher(base), "now": teacher_of_later(encoder, moved)}
    truth = {
        when: teacher.features(rows["test"][0], "query").vectors @ teacher.features(rows["test"][1], "pool").vectors.T
        for when, teacher in teachers.items()
    }

    def fidelity(one: InfluenceEncoder, when: str = "now") -> float:
        scores = one.encode_query(rows["test"][0]) @ one.encode_pool(rows["test"][1]).T
        return float(spearman_rows(truth[when], scores).mean())

    found: dict[str, Any] = {"then": fidelity(encoder, "then"), "old": fidelity(encoder)}
    found["teachers"] = float(spearman_rows(truth["then"], truth["now"]).mean())
    for name, decoder in (("drift_then", base), ("drift_now", moved)):
        told = influcoder.drift(encoder, decoder, *rows["test"], seed=seed)
        found[name] = {"verdict": told["verdict"], "gradients": told["gradients"]}
    now = Sample(
        *rows["sample"],
        teachers["now"].features(rows["sample"][0], "query").vectors,
        teachers["now"].features(rows["sample"][1], "pool").vectors,
    )
    tables = backbone_of(moved), expected_embeddings(moved)
    found["refresh"], found["anew"], found["claimed"], found["seconds"] = [], [], [], []
    for share in (*SHARES, 1.0):
        if share < 1:
            place = folder / f"refreshed-{share}"
            began = time.perf_counter()
            refresh(encoder, features, moved, Folder(place), share=share, seed=seed)
            found["seconds"].append((time.perf_counter() - began) / first)
            fresh = InfluenceEncoder.load(place)
            found["refresh"].append(fidelity(fresh))
            found["claimed"].append(fresh.measured["per_query_spearman"])
        part = now.rows(*(np.arange(round(share * len(side))) for side in rows["sample"]))
        try:
            alone = distill_static(
                tables[0], *split_sample(part, seed), ClosedFormRecipe(seed=seed), expected=tables[1]
            )
            found["anew"].append(fidelity(alone))
        except DataError:  # too few to split
            found["anew"].append(None)
    print(f"{move}, seed {seed}: {found}", file=sys.stderr, flush=True)
    return found


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds, and each seed's number."""

    def over(values: list[float]) -> dict[str, Any]:
        return {"mean": float(np.mean(values)), "seeds": values}

    told: dict[str, Any] = {name: over([one[name] for one in seeds]) for name in ("then", "old", "teachers")}
    told["anew_whole"] = over([one["anew"][-1] for one in seeds])
    for name in (*WAYS, "claimed", "seconds"):
        columns = list(zip(*(one[name][: len(SHARES)] for one in seeds), strict=True))
        told[name] = {
            str(share): over(list(values)) for share, values in zip(SHARES, columns, strict=True) if None not in values
        }
    return told | {name: [one[name] for one in seeds] for name in ("drift_then", "drift_now")}


def figure(moves: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "influcoder"
    from matplotlib import pyplot

    width = 2 + 3.2 * len(moves)
    fig, all_axes = pyplot.subplots(
        1, len(moves), figsize=(width, 3.4), sharey=True, layout="constrained", squeeze=False
    )
    for axes, (move, told) in zip(all_axes[0], moves.items(), strict=True):
        for way, colour in zip(WAYS, ("C0", "C1"), strict=True):
            shares = [100 * float(share) for share in told[way]]
            points = list(told[way].values())
            means = np.array([one["mean"] for one in points])
            ends = np.array([[min(one["seeds"]), max(one["seeds"])] for one in points])
            axes.errorbar(shares, means, np.abs(ends.T - means), label=way, color=colour, marker="o", capsize=2)
        for name, line in (("then", ":"), ("anew_whole", "--"), ("old", "-")):
            axes.axhline(told[name]["mean"], color="0.5", linewidth=0.9, linestyle=line, label=name.replace("_", ", "))
        axes.set_xscale("log")
        axes.set_xticks([100 * share for share in SHARES], [f"{share:.0%}" for share in SHARES])
        axes.set_title(f"moved {move}", fontsize="medium")
        axes.set_xlabel("share of the gradients computed anew")
    all_axes[0, 0].set_ylabel("per-query ρ on unseen rows")
    all_axes[0, -1].legend(frameon=False, fontsize="small")
    fig.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--moves", nargs="+", choices=MOVES, default=list(MOVES))
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    base, moves = Decoder.load(assets() / "decoder", max_length=512), {}
    for move in arguments.moves:
        results = []
        for seed in range(arguments.seeds):
            with tempfile.TemporaryDirectory() as folder:
                results.append(measure(base, seed, move, Path(folder)))
        moves[move] = summary(results)
    facts = {"package": __version__, "teacher": "gradient-cosine", "learning_rates": MOVES, "seeds": arguments.seeds}
    write_json(arguments.output_dir / "refresh.json", facts | {"moves": moves})
    figure(moves, arguments.output_dir / "refresh.svg")


if __name__ == "__main__":
    main()
