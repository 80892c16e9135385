"""The contenders take turns."""

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from contenders.agreement import compare
from contenders.environment import python_of
from contenders.process import Failed, Process
from contenders.workloads import Workload

HERE = Path(__file__).parent
REFERENCE = "loop"
ALPHA_PER_RANK = 2.0


@dataclass(frozen=True)
class Entry:
    """One contender: its script, the precision it is run in, and whether it takes examples in batches."""

    script: str
    precision: str = "float32"
    peer: str | None = None
    batched: bool = True


ENTRIES = {
    "loop": Entry("one_by_one.py", batched=False),
    "loop-bf16": Entry("one_by_one.py", "bf16", batched=False),
    "vmap": Entry("vmapped.py"),
    "bergson": Entry("with_bergson.py", peer="bergson"),
    "bergson-bf16": Entry("with_bergson.py", "bf16", peer="bergson"),
    "dattri": Entry("with_dattri.py", peer="dattri"),
    "influcoder": Entry("with_influcoder.py"),
    "influcoder-bf16": Entry("with_influcoder.py", "bf16"),
}


class Race:
    """The contenders of one workload, from the first check to the last round."""

    def __init__(self, arguments: argparse.Namespace, workload: Workload, folder: Path) -> None:
        self.arguments = arguments
        self.workload = workload
        self.folder = folder
        self.results: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, list[float]] = {}
        self.versions: dict[str, str] = {}

    def start(self, name: str) -> Process:
        entry = ENTRIES[name]
        job = self.folder / f"{name}.json"
        scratch = self.folder / name
        scratch.mkdir(exist_ok=True)
        shared = {"model": self.workload.model, "examples": self.workload.examples, "matrices": self.workload.matrices}
        job.write_text(
            json.dumps(
                {key: str(path) for key, path in shared.items()}
                | {
                    "scale": ALPHA_PER_RANK,
                    "precision": entry.precision,
                    "device": self.arguments.device,
                    "threads": self.arguments.threads,
                    "scratch": str(scratch),
                }
            )
        )
        python = python_of(self.arguments.peers_env) if entry.peer else Path(sys.executable)
        process = Process(python, HERE / entry.script, job, self.folder / f"{name}.log", self.arguments.threads)
        self.versions |= process.versions
        return process

    def check(self, name: str) -> None:
        """Compare a contender's cosines with the reference's, and find the batch size that suits it."""
        say(f"checking {name}")
        entry = ENTRIES[name]
        budgets = self.arguments.token_budgets if entry.batched else [0]
        gram = self.folder / f"{name}.safetensors"
        process = self.start(name)
        try:
            process.ask(do="check", budget=budgets[0], path=str(gram))
            reference = load_file(self.folder / f"{REFERENCE}.safetensors")["gram"]
            found = compare(load_file(gram)["gram"], reference, entry.precision)
            self.results[name] = {"precision": entry.precision, **found}
            if not found["agrees"]:
                raise Failed("computes something else than the loop; not timed")
            self.results[name]["token_budget"] = _fastest(process, budgets) if entry.batched else None
        finally:
            process.end()

    def run(self, names: list[str]) -> None:
        """Let the contenders take turns."""
        alive: dict[str, Process] = {}
        try:
            for name in names:
                say(f"warming up {name}")
                self._guarded(name, lambda name=name: self._enter(name, alive))
            for number in range(self.arguments.repeats):
                order = [name for name in names if name in alive]
                turn = number % len(order)
                for name in order[turn:] + order[:turn]:
                    self._guarded(name, lambda name=name: self._turn(name, alive))
                say(f"round {number + 1} of {self.arguments.repeats}")
        finally:
            for process in alive.values():
                process.end()

    def _guarded(self, name: str, step: Any) -> None:
        try:
            step()
        except Failed as failure:
            self.fail(name, str(failure))

    def _enter(self, name: str, alive: dict[str, Process]) -> None:
        process = self.start(name)
        alive[name] = process
        process.ask(do="pass", budget=self.results[name]["token_budget"] or 0)

    def _turn(self, name: str, alive: dict[str, Process]) -> None:
        if "error" in self.results[name]:
            return
        answer = alive[name].ask(do="pass", budget=self.results[name]["token_budget"] or 0)
        self.seconds.setdefault(name, []).append(answer.pop("seconds"))
        self.results[name] |= answer

    def fail(self, name: str, reason: str) -> None:
        say(f"{name}: {reason}")
        self.results.setdefault(name, {"precision": ENTRIES[name].precision})["error"] = reason

    def conclude(self) -> dict[str, dict[str, Any]]:
        """Every contender's numbers."""
        timed = {name: each for name, each in self.seconds.items() if "error" not in self.results[name]}
        for name, each in timed.items():
            middle = statistics.median(each)
            self.results[name] |= {
                "seconds": each,
                "examples_per_second": len(self.workload.lengths) / middle,
                "tokens_per_second": sum(self.workload.lengths) / middle,
                **ratios("loop", timed.get(REFERENCE), each),
            }
            precision = ENTRIES[name].precision
            rival = "bergson" if precision == "float32" else f"bergson-{precision}"
            self.results[name] |= ratios("bergson", timed.get(rival), each)
        return self.results


def ratios(rival: str, theirs: list[float] | None, ours: list[float]) -> dict[str, Any]:
    """How many times faster than a rival, round by round: the median, and the least and most."""
    if theirs is None:
        return {f"ratio_to_{rival}": None, f"ratio_to_{rival}_interval": None}
    each = [their / our for their, our in zip(theirs, ours, strict=True)]
    return {f"ratio_to_{rival}": statistics.median(each), f"ratio_to_{rival}_interval": [min(each), max(each)]}


def _fastest(process: Process, budgets: list[int]) -> int:
    """The budget whose pass was the shortest; one that does not fit into memory is not it."""
    seconds = {}
    for budget in budgets:
        try:
            seconds[budget] = process.ask(do="pass", budget=budget)["seconds"]
        except Failed as failure:
            say(f"  {budget} tokens a batch: {failure}")
    if not seconds:
        raise Failed("no batch size fits")
    return min(seconds, key=seconds.__getitem__)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
