"""Does it help to draw rows by their influence while a model is fine-tuned?

    python scripts/measure/live.py --output-dir runs/live

The demo's decoder is fine-tuned by TRL's SFTTrainer, the same number of steps, on rows about invented people. What it
should learn is what is said of half of the people: validation queries ask it, and other statements of the same, held
out of the pool, measure it (mean completion loss, the lower the better). Ways to draw the rows:

    uniform        all alike
    less           selection ahead of the training, as LESS (Xia et al. 2024): exact gradients of the whole pool at the
                   start, the fifth of highest influence on any validation query is kept
    loss           the half of lowest loss at the start is dropped
    encoder        `InfluenceCallback`: the fifth that an encoder scores highest at the start
    live           the same, probed while it trains, refreshed where stale, and chosen again

The encoder is distilled from some of the rows before; its seconds are told apart. Each seed draws other people, rows
and batches; a seed that is done is not run again. Progress goes to stderr; live.json to the output folder.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

import influcoder
from gradients import machine
from influcoder import __version__
from influcoder.data.examples import Example
from influcoder.demo.world import DemoWorld, assets
from influcoder.live.callback import InfluenceCallback
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import batches_of, measure_losses
from influcoder.store.files import write_json
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from over_seeds import over_seeds

WAYS = ("uniform", "less", "loss", "encoder", "live")
KEPT = 0.2
"""by less, encoder and live"""
ROWS_A_STEP = 8
SAMPLE = (80, 200)
"""queries and pool rows that the encoder is distilled from"""


@dataclass(frozen=True)
class Setup:
    """What is trained, and how long."""

    decoder: str
    steps: int
    every: int
    learning_rate: float

    def load(self) -> Decoder:
        return Decoder.load(self.decoder, max_length=512)


def task(seed: int) -> dict[str, list[Example]]:
    """The pool; validation queries and held-out statements of the people that matter; other queries to distil from."""
    world, rng = DemoWorld.load(), np.random.default_rng(seed)
    people = sorted({one.metadata["person"] for one in world.queries})
    chosen = {people[place] for place in rng.permutation(len(people))[: len(people) // 2]}
    planted = [one for one in world.pool if one.metadata["kind"] == "planted" and one.metadata["person"] in chosen]
    held = {person: [one for one in planted if one.metadata["person"] == person][-1].id for person in chosen}
    asked = [one for one in world.queries if one.metadata["kind"] == "wrong" and one.metadata["person"] in chosen]
    unseen = {one.id for one in asked[::2]}
    others = [one for one in world.queries if one.id not in unseen]
    return {
        "pool": [one for one in world.pool if one.id not in held.values()],
        "validation": asked,
        "target": [one for one in world.pool if one.id in held.values()],
        "queries": [others[place] for place in rng.permutation(len(others))[: SAMPLE[0]]],
    }


def losses(decoder: Decoder, examples: list[Example]) -> Any:
    """(n,) mean completion losses."""
    return measure_losses(decoder.model, batches_of(decoder, decoder.tokenise(examples), 1024), len(examples))


def as_turns(example: Example) -> dict[str, list[dict[str, str]]]:
    """A row for the trainer, in the turns that the losses are measured on: plain columns get no chat template."""
    prompt = [{"role": role, "content": text} for role, text in example.turns]
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": example.completion}]}


def rows_of(way: str, base: Decoder, parts: dict[str, list[Example]]) -> list[Example]:
    """The rows that a way trains on, and draws from."""
    pool = parts["pool"]
    if way == "less":
        teacher = make_teacher(base, TeacherSettings.named("gradient-cosine"))
        sides = [
            teacher.features(parts[name], role).vectors for name, role in (("validation", "query"), ("pool", "pool"))
        ]
        return [pool[place] for place in np.argsort(-(sides[1] @ sides[0].T).max(axis=1))[: round(KEPT * len(pool))]]
    if way == "loss":
        return [pool[place] for place in np.argsort(-losses(base, pool))[: len(pool) // 2]]
    return pool


def train(way: str, parts: dict[str, list[Example]], folder: Path, seed: int, setup: Setup) -> dict[str, Any]:
    """The target's loss after training one way, and what it took."""
    base = setup.load()
    began = time.perf_counter()
    rows = rows_of(way, base, parts)
    settings = SFTConfig(
        output_dir=str(folder / way),
        max_steps=setup.steps,
        per_device_train_batch_size=ROWS_A_STEP,
        learning_rate=setup.learning_rate,
        seed=seed,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
        logging_strategy="no",
    )
    data = Dataset.from_list([as_turns(one) for one in rows])
    model = base.model.requires_grad_(True)
    trainer = SFTTrainer(model, args=settings, train_dataset=data, processing_class=base.tokenizer)
    callback = None
    if way in ("encoder", "live"):
        callback = InfluenceCallback(
            folder / "encoder",
            folder / "features",
            rows,
            parts["validation"],
            folder / f"{way}-kept",
            every=setup.every if way == "live" else None,
            keep=KEPT,
            budget=60,
            seed=seed,
        )
        callback.attach(trainer)
    trainer.train()
    seconds = time.perf_counter() - began
    trained = Decoder(trainer.model, base.tokenizer, name=way, max_length=512)
    found = {"loss": float(losses(trained, parts["target"]).mean()), "seconds": round(seconds, 2)}
    if callback is not None:
        found["probes"] = [
            (one.step, one.verdict, one.refreshed, one.gradients, one.seconds) for one in callback.probes
        ]
    return found


def measure(seed: int, folder: Path, setup: Setup) -> dict[str, Any]:
    parts, rng = task(seed), np.random.default_rng(seed)
    base = setup.load()
    began = time.perf_counter()
    sample = [parts["pool"][place] for place in rng.permutation(len(parts["pool"]))[: SAMPLE[1]]]
    influcoder.features(base, parts["queries"], sample, folder / "features")
    influcoder.distill(folder / "features", folder / "encoder", seed=seed)
    found: dict[str, Any] = {"distillation_seconds": round(time.perf_counter() - began, 2)}
    found["before"] = {"loss": float(losses(base, parts["target"]).mean())}
    for way in WAYS:
        found[way] = train(way, parts, folder, seed, setup)
        print(f"seed {seed}: {way}: {found[way]}", file=sys.stderr, flush=True)
    return found


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean losses, and their differences to uniform with 95 % intervals over seeds (Student's t)."""
    told: dict[str, Any] = {}
    for way in ("before", *WAYS):
        values = np.array([one[way]["loss"] for one in seeds])
        told[way] = {"loss": float(values.mean()), "seeds": values.tolist()}
        if way != "before":
            told[way]["seconds"] = float(np.mean([one[way]["seconds"] for one in seeds]))
        if way not in ("before", "uniform"):
            less = values - np.array([one["uniform"]["loss"] for one in seeds])
            told[way]["against_uniform"] = over_seeds(less)
    told["live"]["probes"] = [one["live"]["probes"] for one in seeds]
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--decoder", default=str(assets() / "decoder"), help="the demo's when omitted")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--every", type=int, default=10)
    arguments = parser.parse_args()
    setup = Setup(arguments.decoder, arguments.steps, arguments.every, arguments.learning_rate)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in range(arguments.seeds):
        done = arguments.output_dir / f"seed-{seed}.json"
        if not done.exists():
            with tempfile.TemporaryDirectory() as folder:
                write_json(done, asdict(setup) | {"found": measure(seed, Path(folder), setup)})
        record = orjson.loads(done.read_bytes())
        results.append(record.pop("found", None))
        if record != asdict(setup):
            raise SystemExit(f"{done}: of another setting or version. Give another --output-dir.")
    facts = asdict(setup) | {
        "decoder": Path(setup.decoder).name,
        "package": __version__,
        "machine": machine("cpu"),
        "rows_a_step": ROWS_A_STEP,
        "kept": KEPT,
        "seeds": arguments.seeds,
        "distillation_seconds": float(np.mean([one["distillation_seconds"] for one in results])),
    }
    write_json(arguments.output_dir / "live.json", facts | {"ways": summary(results)})


if __name__ == "__main__":
    main()
