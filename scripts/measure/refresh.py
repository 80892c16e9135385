"""What does a refresh cost, and what does it give back? The demo's decoder is fine-tuned further on other rows.

    python scripts/measure/refresh.py --output-dir runs/refresh

An encoder is distilled at the demo's decoder from two thirds of the rows about some people; the decoder is fine-tuned
on the rows about the other people, slightly to strongly. On the last third, with the moved decoder's own gradients, it
is measured how well rankings agree with the teacher's, per-query Spearman, with queries that are read as text and, as
in practice, with their own gradients (`exact_query`):

    old      the encoder as it is
    refresh  `distill --from` with some share of the gradients computed anew
    anew     an encoder of nothing but that share

what share of the fidelity that a whole distillation regains a refresh regains (`regained`), by how much it stays below
one (`less_anew_whole`), what share of the agreement at its own decoder it has (`of_then`), and what `drift` says, at
the decoder of before and at the moved one, by how many gradients. Each seed draws other rows and fine-tunes in another
order. Progress goes to stderr; refresh.json and refresh.svg to the output folder.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student_t

import influcoder
from influcoder import __version__
from influcoder.demo.world import DemoWorld, assets
from influcoder.maths.arrays import Floats
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.store.files import write_json
from influcoder.store.output_folder import Folder
from influcoder.student.decoder_tables import DecoderTables
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of_later
from influcoder.student.features_folder import FeaturesFolder
from influcoder.student.sample import Sample, split_sample
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.refresh import refresh
from over_seeds import over_seeds

SHARES = (0.1, 0.2, 0.5)
MOVES = {"slightly": 1e-5, "gently": 1.5e-5, "clearly": 2.5e-5, "strongly": 1e-4}
"""learning rates of the fine-tuning"""
WAYS = ("refresh", "anew")
ASKED = ("text", "exact")
"""how a test query is given to an encoder"""
Rows = Mapping[str, tuple[list[Any], list[Any]]]


def drawn(seed: int) -> Rows:
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


def measure(
    base: Decoder, rows: Rows, moved: Mapping[str, Decoder], seed: int, folder: Path
) -> dict[str, dict[str, Any]]:
    """By move: fidelities by way and share, and what drift says."""
    features = influcoder.features(base, *rows["sample"], folder / "features")
    encoder = influcoder.distill(features, folder / "encoder", seed=seed)
    truth = Truth.of(features.teacher(base), rows["test"])
    common: dict[str, Any] = {
        "then": fidelity(encoder, rows["test"], truth),
        "drift_then": told(encoder, base, rows["test"], seed),
    }
    found: dict[str, dict[str, Any]] = {}
    for move, decoder in moved.items():
        found[move] = common | after(encoder, features, decoder, rows, seed, folder / move)
        truth_now = found[move].pop("truth")
        found[move]["teachers"] = float(spearman_rows(truth.influence, truth_now.influence).mean())
        print(f"{move}, seed {seed}: {found[move]}", file=sys.stderr, flush=True)
    return found


def after(
    encoder: InfluenceEncoder, features: FeaturesFolder, moved: Decoder, rows: Rows, seed: int, folder: Path
) -> dict[str, Any]:
    """At a moved decoder: its truth, the old encoder's fidelity, and those of encoders by way and share."""
    teacher, test, sample = teacher_of_later(encoder, moved), rows["test"], rows["sample"]
    truth = Truth.of(teacher, test)
    found: dict[str, Any] = {"truth": truth, "old": fidelity(encoder, test, truth)}
    found["drift_now"] = told(encoder, moved, test, seed)
    sides = teacher.features(sample[0], "query").vectors, teacher.features(sample[1], "pool").vectors
    now, tables = Sample(*sample, *sides), DecoderTables.of(moved)
    found["refresh"], found["anew"], found["claimed"] = [], [], []
    for share in SHARES:
        place = folder / f"refreshed-{share}"
        refresh(encoder, features, moved, Folder(place), share=share, seed=seed)
        fresh = InfluenceEncoder.load(place)
        found["refresh"].append(fidelity(fresh, test, truth))
        found["claimed"].append(fresh.measured["per_query_spearman"])
    for share in (*SHARES, 1.0):
        part = now.rows(*(np.arange(round(share * len(side))) for side in sample))
        alone = distill_static(
            tables.backbone, *split_sample(part, seed), ClosedFormRecipe(seed=seed), expected=tables.expected
        )
        found["anew"].append(fidelity(alone, test, truth))
    return found


@dataclass(frozen=True)
class Truth:
    """The teacher's features of the test queries, and its influences (n_queries, n_pool)."""

    queries: Floats
    influence: Floats

    @classmethod
    def of(cls, teacher: Teacher, test: tuple[list[Any], list[Any]]) -> "Truth":
        queries = teacher.features(test[0], "query").vectors
        return cls(queries, queries @ teacher.features(test[1], "pool").vectors.T)


def fidelity(encoder: InfluenceEncoder, test: tuple[list[Any], list[Any]], truth: Truth) -> dict[str, float]:
    """By how the queries are asked."""
    asked = encoder.encode_query(test[0]), encoder.project_query(test[0], truth.queries)
    rows = encoder.encode_pool(test[1])
    agreements = (float(spearman_rows(truth.influence, queries @ rows.T).mean()) for queries in asked)
    return dict(zip(ASKED, agreements, strict=True))


def told(encoder: InfluenceEncoder, decoder: Decoder, test: tuple[list[Any], list[Any]], seed: int) -> dict[str, Any]:
    found = influcoder.drift(encoder, decoder, *test, seed=seed)
    return {"verdict": found["verdict"], "gradients": found["gradients"]}


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Every number over seeds, of queries as text, and under `exact_query` of those with their own gradients."""
    claimed = zip(*(one["claimed"] for one in seeds), strict=True)
    found = fidelities(seeds, "text") | {
        "teachers": over_seeds([one["teachers"] for one in seeds]),
        "claimed": {str(share): over_seeds(values) for share, values in zip(SHARES, claimed, strict=True)},
        "exact_query": fidelities(seeds, "exact"),
    }
    return found | {name: [one[name] for one in seeds] for name in ("drift_then", "drift_now")}


def fidelities(seeds: list[dict[str, Any]], asked: str) -> dict[str, Any]:
    """The fidelities over seeds (`over_seeds`), and what a refresh gives back of them."""
    found: dict[str, Any] = {name: over_seeds([one[name][asked] for one in seeds]) for name in ("then", "old")}
    found["anew_whole"] = over_seeds([one["anew"][-1][asked] for one in seeds])
    for name in WAYS:
        columns = zip(*([each[asked] for each in one[name][: len(SHARES)]] for one in seeds), strict=True)
        found[name] = {str(share): over_seeds(values) for share, values in zip(SHARES, columns, strict=True)}
    old, whole = (np.array(found[name]["seeds"]) for name in ("old", "anew_whole"))
    fresh = {share: np.array(one["seeds"]) for share, one in found["refresh"].items()}
    found["regained"] = {share: regained(values, old, whole) for share, values in fresh.items()}
    then = np.array(found["then"]["seeds"])
    found["of_then"] = {share: over_seeds(values / then) for share, values in ({"old": old} | fresh).items()}
    found["less_anew_whole"] = {share: over_seeds(values - whole) for share, values in fresh.items()}
    return found


def regained(fresh: Any, old: Any, whole: Any) -> dict[str, Any]:
    """The share of what a whole distillation regains: a ratio of means over seeds, with Fieller's 95 % interval.

    The interval is None where the gain of a whole distillation is not above 0 beyond doubt.
    """
    gain, most, count = fresh - old, whole - old, len(old)
    quantile = float(student_t.ppf(0.975, count - 1))
    spread = np.cov(gain, most) / count
    a = most.mean() ** 2 - quantile**2 * spread[1, 1]
    b = gain.mean() * most.mean() - quantile**2 * spread[0, 1]
    c = gain.mean() ** 2 - quantile**2 * spread[0, 0]
    reach = np.sqrt(max(b * b - a * c, 0.0))
    ends = [float((b - reach) / a), float((b + reach) / a)] if a > 0 else None
    return {"share": float(gain.mean() / most.mean()), "interval_95": ends}


def figure(moves: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "influcoder"
    from matplotlib import pyplot

    width = 2 + 2.4 * len(moves)
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
        axes.minorticks_off()
        axes.set_title(f"moved {move}", fontsize="medium")
        axes.set_xlabel("share of the gradients computed anew")
    all_axes[0, 0].set_ylabel("per-query ρ on unseen rows")
    all_axes[0, -1].legend(frameon=False, fontsize="small")
    fig.savefig(path, metadata={"Date": None})


def parse(description: str | None) -> argparse.Namespace:
    """The flags; the output folder is there."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    return arguments


def main() -> None:
    arguments = parse(__doc__)
    base, results = Decoder.load(assets() / "decoder", max_length=512), []
    for seed in range(arguments.seeds):
        rows = drawn(seed)
        further = {move: FinetuneSettings(2, rate, 16, seed=seed, token_budget=1024) for move, rate in MOVES.items()}
        moved = {move: finetune(base, rows["others"][1], settings) for move, settings in further.items()}
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(base, rows, moved, seed, Path(folder)))
    moves = {move: summary([one[move] for one in results]) for move in MOVES}
    facts = {"package": __version__, "teacher": "gradient-cosine", "learning_rates": MOVES, "seeds": arguments.seeds}
    write_json(arguments.output_dir / "refresh.json", facts | {"moves": moves})
    figure(moves, arguments.output_dir / "refresh.svg")


if __name__ == "__main__":
    main()
