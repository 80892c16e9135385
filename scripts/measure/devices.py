"""Are the gradients of one device those of another?

    python scripts/measure/devices.py --decoder src/influcoder/demo/decoder --device cuda --output devices.json

Features of the same rows by several teachers, on the CPU in float32 and on the device in float32 and in bfloat16: the
largest difference as a share of a row's length, the smallest cosine, and the mean per-query Spearman of influences.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from influcoder.demo.world import DemoWorld
from influcoder.maths.influence import cross_influence
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings

TEACHERS = ("gradient-cosine", "layer-cosine", "rrinf", "logra", "kfac", "forward")
RANK = 16


def features(decoder: Decoder, name: str, precision: str, rows: dict[str, Any], state: Any) -> tuple[Any, Any]:
    """Features of both sides, and what the teacher learnt: given a state, it takes that over instead of learning."""
    teacher = make_teacher(decoder, TeacherSettings.named(name, precision=precision, rank=RANK))
    if teacher.needs_fitting and state is None:
        teacher.fit(rows["pool"], rows["query"])
    elif teacher.needs_fitting:
        teacher.load(state)
    found = {role: torch.from_numpy(teacher.features(rows[role], role).vectors) for role in ("query", "pool")}
    return found, teacher.state() if teacher.needs_fitting else None


def compare(here: dict[str, Any], there: dict[str, Any]) -> dict[str, float]:
    """How far the second is from the first."""
    one, other = here["pool"], there["pool"]
    influences = [cross_influence(each["query"].numpy(), each["pool"].numpy()) for each in (here, there)]
    return {
        "error": float(((other - one).norm(dim=1) / one.norm(dim=1)).max()),
        "cosine": float(torch.cosine_similarity(one, other).min()),
        "spearman": float(spearman_rows(*influences).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decoder", required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()

    world = DemoWorld.load()
    rows = {"query": world.queries[:16], "pool": world.pool[: arguments.examples]}
    here, there = (
        Decoder.load(arguments.decoder, dtype="fp32", device=device, max_length=256)
        for device in ("cpu", arguments.device)
    )
    results: dict[str, Any] = {"device": arguments.device, "torch": torch.__version__, "teachers": {}}
    for name in TEACHERS:
        expected, state = features(here, name, "fp32", rows, None)
        results["teachers"][name] = {
            precision: compare(expected, features(there, name, precision, rows, state)[0])
            for precision in ("fp32", "bf16")
        }
        print(name, results["teachers"][name], flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
