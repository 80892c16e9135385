"""What a long job will take, before it begins: rows, time, disk, memory, and the exact teacher's cost beside it.

Time is measured: some rows, drawn at random, go through the model, on this machine and with these threads, and the
time of the job is extrapolated from theirs.
"""

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from influcoder.data.columns import text_bytes
from influcoder.data.examples import Example
from influcoder.data.preview import Preview
from influcoder.data.sampling import Drawn
from influcoder.data.seen_ids import BYTES_AN_ID
from influcoder.evaluation.proof import FineTuning
from influcoder.indexes.build import SAMPLE_ROWS, SHARD_ROWS, Choice, choose_code, embed, measure_codes, shard_columns
from influcoder.indexes.faiss_index import EXACT_ROWS, pq_bytes
from influcoder.model.finetune import finetune
from influcoder.store.disk_space import in_words
from influcoder.store.scalar_code import ScalarCode
from influcoder.student.decoder_tables import bytes_of_tables
from influcoder.student.effort import STATIC, Effort
from influcoder.student.encoder import InfluenceEncoder
from influcoder.teachers.teacher import Teacher
from influcoder.teachers.write import bytes_to_write
from influcoder.verbs.cost import seconds_a_row, seconds_of_gradient
from influcoder.verbs.probe import FEATURE_PROBE, measured_speed

INDEX_PROBE = 2048
TRAINING_PROBE = 256
"""rows that are drawn for a probe, at most"""
TRACED = (*(Effort(1.0, tokens, backward=True) for tokens in (80, 60, 40)), STATIC)
"""what `trace` chooses from: with a few hundred gradients, 20 tokens tell less than looking tokens up, and a forward
pass less than a gradient of few tokens that costs as much"""
LARGEST_SAMPLE, SMALLEST_SAMPLE = 1000, 100
"""pool rows whose gradients `trace` takes: more would help little, and with fewer a better tier is not tried"""
SPENT = 0.85
"""of the budget of `trace`; the rest is for loading, and for what the probe did not see"""
DISTILLING_S = 20.0
"""about what `trace` takes beside gradients and reading: to distil and to write the index, on one slow core"""


def plan_features(teacher: Teacher, queries: Preview, pool: Preview) -> dict[str, Any]:
    """What `features` of these queries and this pool takes: the exact teacher's own cost."""
    rows = queries.rows + pool.rows
    learnt_s = 0.0
    if teacher.needs_fitting:
        begin = time.perf_counter()
        teacher.fit(pool.sample, queries.sample)
        per_row = (time.perf_counter() - begin) / (len(pool.sample) + len(queries.sample))
        learnt_s = per_row * sum(min(side.rows, teacher.settings.fit_examples) for side in (queries, pool))
    probe = measured_speed(lambda rows: teacher.features(rows, "pool"), pool.sample)
    disk = bytes_of_tables(teacher.decoder) + round(
        bytes_to_write(teacher, queries.sample, "query") * queries.rows / len(queries.sample)
        + bytes_to_write(teacher, pool.sample, "pool") * pool.rows / len(pool.sample)
    )
    cost = {"seconds": learnt_s + rows / probe["rows_per_second"], "disk_bytes": disk}
    memory = round(_memory_of(queries.sample) * queries.rows + _memory_of(pool.sample) * pool.rows)
    return {
        "rows": {"queries": queries.rows, "pool": pool.rows},
        "probe": probe,
        **cost,
        "memory_bytes": _peak_bytes() + memory,
        "exact_teacher": cost,
    }


def plan_index(
    encoder: InfluenceEncoder,
    pool: Preview,
    teacher: Teacher | None = None,
    *,
    code: Choice = "auto",
    approximate: bool = False,
) -> dict[str, Any]:
    """What `index` of this pool takes with this code; with a teacher, also what that would take in its place."""
    probe = measured_speed(encoder.encode_pool, pool.sample)
    chosen = _code(encoder, pool, code)
    row = chosen.bytes + text_bytes(pool.sample, shard_columns)
    beside = pq_bytes(encoder.dim) if approximate else 2 * encoder.dim if pool.rows <= EXACT_ROWS else 0
    exact = None
    if teacher is not None:
        teacher_probe = measured_speed(lambda rows: teacher.features(rows, "pool"), pool.sample, FEATURE_PROBE)
        size = round(pool.rows * (teacher.code.bytes + text_bytes(pool.sample)))
        exact = {"seconds": pool.rows / teacher_probe["rows_per_second"], "disk_bytes": size, "probe": teacher_probe}
    # A shard of rows at a time, as they are read and as the columns they are written as; and a hash an id.
    memory = 2 * _memory_of(pool.sample) * min(pool.rows, SHARD_ROWS) + BYTES_AN_ID * pool.rows
    return {
        "rows": {"pool": pool.rows},
        "probe": probe,
        "code": chosen.name,
        "seconds": pool.rows / probe["rows_per_second"],
        "disk_bytes": round(pool.rows * (row + beside)),
        "memory_bytes": _peak_bytes() + round(memory),
        "exact_teacher": exact,
    }


def plan_trainings(tuning: FineTuning, rows: int, trainings: int, queries: Sequence[Example]) -> dict[str, Any]:
    """What so many fine-tunings take, on about so many rows each, and asking each model the queries."""
    one_epoch = replace(tuning.settings, epochs=1)
    probe = measured_speed(lambda rows: finetune(tuning.decoder, rows, one_epoch), tuning.pool, TRAINING_PROBE)
    answering = measured_speed(tuning.decoder.answers, queries, TRAINING_PROBE)
    seconds = rows * tuning.epochs / probe["rows_per_second"] + len(queries) / answering["rows_per_second"]
    return {"trainings": trainings, "seconds": trainings * seconds, "probe": probe}


@dataclass(frozen=True, slots=True)
class TracePlan:
    """What `trace` does with its budget.

    Attributes:
        rows: of the pool.
        sample: rows whose gradients are taken.
        effort: what of the decoder the encoder runs on each of them.
        seconds: about how long that takes.
        gradients: rows a second, measured.
    """

    rows: int
    sample: int
    effort: Effort
    seconds: float
    gradients: float

    def json(self) -> dict[str, Any]:
        return asdict(self)


def plan_trace(
    teacher: Teacher, questions: Sequence[Example], drawn: Drawn, budget: float, sample: int | None = None
) -> TracePlan:
    """The greatest effort that reads the pool and leaves time for a good sample, and as large a sample as then fits.

    Looking tokens up costs nearly nothing, and is what is left where the budget is short of everything else.

    Args:
        drawn: rows of the pool, at most `LARGEST_SAMPLE`, or `sample`.
        budget: seconds.
        sample: how many rows to take, however long that takes.
    """
    begin = time.perf_counter()
    if teacher.needs_fitting:
        teacher.fit(drawn.examples[:FEATURE_PROBE], questions)
    gradient = seconds_of_gradient(teacher, drawn.examples)
    least = min(SMALLEST_SAMPLE, len(drawn.examples)) if sample is None else sample

    def fitting(a_row: float) -> float:
        """How many gradients there is time for, where reading a row takes `a_row`."""
        seconds_left = SPENT * (budget - (time.perf_counter() - begin)) - DISTILLING_S - drawn.of * a_row
        # A row of the sample is read three times: to distil, as a query and as a pool row, and with the pool.
        return seconds_left / (gradient + 2 * a_row) if a_row < math.inf else 0

    a_token = 0.0
    for effort in TRACED:
        if effort.tokens and fitting(effort.tokens * a_token) < least:
            continue  # fewer tokens take at best as much less
        a_row = seconds_a_row(effort, teacher, drawn.examples)
        if effort == STATIC or fitting(a_row) >= least:
            break
        a_token = a_row / effort.tokens if effort.tokens else 0.0
    size = min(sample or max(int(fitting(a_row)), least), len(drawn.examples))
    seconds = DISTILLING_S + (drawn.of + 2 * size) * a_row + size * gradient
    return TracePlan(drawn.of, size, effort, seconds, 1 / gradient)


def _code(encoder: InfluenceEncoder, pool: Preview, choice: Choice) -> ScalarCode:
    """The code that `index` takes; "auto" chooses on these rows as it chooses on its first."""
    vectors = embed(encoder, pool.sample)
    if choice == "auto" and pool.rows < SAMPLE_ROWS:
        choice = "float16"
    if choice == "auto":
        choice = choose_code(measure_codes(encoder, pool.sample, vectors))
    return ScalarCode.fit(choice, vectors)


def plan_in_words(plan: dict[str, Any], free: int) -> str:
    """A plan as a few lines of text."""
    counts = " and ".join(f"{count:,} {side} rows" for side, count in plan["rows"].items())
    probe = plan["probe"]
    lines = [
        f"rows     {counts}",
        f"time     {duration(plan['seconds'])} ({probe['rows_per_second']:,.1f} rows/s, measured on {probe['rows']} "
        f"rows in {probe['seconds']:.1f} s)",
        f"disk     {in_words(plan['disk_bytes'])} to write"
        + (f" (vectors as {plan['code']})" if "code" in plan else "")
        + f", {in_words(free)} free",
        f"memory   {in_words(plan['memory_bytes'])}",
    ]
    exact = plan["exact_teacher"]
    if exact is None:
        lines.append("teacher  its cost for the same job is shown with --decoder")
    elif "probe" in exact:
        lines.append(
            f"teacher  {duration(exact['seconds'])} and {in_words(exact['disk_bytes'])} for the same job, "
            f"{exact['seconds'] / plan['seconds']:,.0f} times as long (measured on {exact['probe']['rows']} rows)"
        )
    else:
        lines.append("teacher  this is the exact teacher")
    return "\n".join(lines)


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _memory_of(examples: Sequence[Example]) -> float:
    """About how many bytes of memory an example takes."""
    objects = ((row, row.id, row.prompt, row.completion, *chain(*row.turns)) for row in examples)
    return sum(sys.getsizeof(each) for of_row in objects for each in of_row) / len(examples)


def duration(seconds: float) -> str:
    """A time in its two largest units.

    >>> duration(7384), duration(90.2), duration(3.04)
    ('2 h 3 min', '1 min 30 s', '3.0 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    for size, unit, less, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // less)} {name}"
    raise AssertionError(seconds)
