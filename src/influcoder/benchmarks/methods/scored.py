"""Scores of methods with their cost, cached in a folder for a run that is resumed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import safetensors.numpy

from influcoder.benchmarks.corpora.problem import Problem
from influcoder.benchmarks.methods.bench import Bench
from influcoder.benchmarks.methods.cost import memory_taken
from influcoder.benchmarks.methods.registry import METHODS, left_out
from influcoder.evaluation.evaluate import Scored, score
from influcoder.evaluation.methods import Method
from influcoder.evaluation.scorers import Scores
from influcoder.progress import progress
from influcoder.provenance import refuse_difference
from influcoder.store.files import atomic_write, write_json
from influcoder.version import __version__


def score_methods(
    bench: Bench, names: Sequence[str], extra: Mapping[str, tuple[str, Bench]] | None = None
) -> dict[str, Scored]:
    """Scores of a bench's problem by every named method that can be made; kept in its folder as they are made.

    Args:
        extra: further entries by the name they are shown under: a method, and the bench that it is made from.

    Raises:
        StoreMismatch: the folder was begun with another model, other examples or other settings.
    """
    _refuse_other_run(bench.folder / "made_by.json", bench.made_by)
    entries = {name: (name, bench) for name in names if name not in left_out(bench, names)} | dict(extra or {})
    scored = {}
    with progress(f"methods, seed {bench.seed}", len(entries)) as advance:
        for shown, (name, source) in entries.items():
            path = bench.folder / "scores" / file_name(shown)
            scored[shown] = cached(path, partial(_measured, METHODS[name], source, bench.problem))
            advance(1)
    return scored


def cached(path: Path, make: Callable[[], Scored]) -> Scored:
    """What `make` returns, from a file at `path` with a suffix once it was made."""
    file = path.with_suffix(".safetensors")
    if not file.exists():
        scored = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        facts = np.array([scored.seconds, scored.bytes_per_example, scored.learning_seconds, scored.memory_mb])
        tensors = {"scores": np.ascontiguousarray(scored.scores, np.float32), "facts": facts}
        atomic_write(file, safetensors.numpy.save(tensors))
    stored = safetensors.numpy.load_file(file)
    seconds, size, *learning_and_memory = map(float, stored["facts"])
    return Scored(stored["scores"], seconds, int(size), *learning_and_memory)


def cached_scores(path: Path, make: Callable[[], Scores]) -> Scores:
    """The same for scores whose cost does not matter."""
    return cached(path, lambda: Scored(make(), 0.0, 0)).scores


def file_name(name: str) -> str:
    """A method's name as that of a file without suffix.

    >>> file_name("rds+, top"), file_name("static, 0.5 of the examples")
    ('rds-plus-top', 'static-0-5 of the examples')
    """
    return name.replace("+", "-plus").replace(", ", "-").replace(".", "-")


def _refuse_other_run(path: Path, made_by: Mapping[str, Any]) -> None:
    """Record what made everything in a folder; its numbers come from a single version and setting.

    Raises:
        StoreMismatch: an earlier run of other settings, or of another version, began there.
    """
    current = orjson.loads(orjson.dumps({"package": __version__, **made_by}))
    if path.exists():
        refuse_difference(f"{path}: begun by another run", orjson.loads(path.read_bytes()), current)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, current)


def _measured(method: Method, bench: Bench, problem: Problem) -> Scored:
    scorer, learning = bench.parts.cost_of(lambda: method.make(bench))
    scorer.score(problem.queries[:1], problem.pool[:2])  # the first call loads tables and kernels
    with memory_taken() as memory:
        scored = score(scorer, problem.queries, problem.pool)
        return Scored(scored.scores, scored.seconds, scored.bytes_per_example, learning, memory())
