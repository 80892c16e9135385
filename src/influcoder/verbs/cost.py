"""How much of the decoder a student should run: the best on validation of those that cost little enough.

The unit is the teacher's gradient of a text, measured on this machine.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from influcoder.data.examples import Example
from influcoder.errors import ConfigError, ModelError
from influcoder.progress import progress
from influcoder.student.effort import DIAL, STATIC, Effort
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.readers import forward_reader
from influcoder.teachers.make import make_teacher
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.probe import FEATURE_PROBE, measured_speed

JUDGED_BY = "per_query_spearman"


@dataclass(frozen=True, slots=True)
class Tried:
    """A student that was distilled.

    Attributes:
        cost: of reading a text, as a share of a gradient.
        agreement: with the teacher on validation, per-query Spearman's ρ.
    """

    effort: Effort
    cost: float
    agreement: float

    def json(self) -> dict[str, Any]:
        return asdict(self) | {"reads": str(self.effort)}


def seconds_of_gradient(teacher: Teacher, rows: Sequence[Example]) -> float:
    """What the teacher takes to read a row."""
    return _seconds(lambda part: teacher.features(part, "pool"), rows)


def seconds_a_row(effort: Effort, teacher: Teacher, rows: Sequence[Example]) -> float:
    """What a student takes to read a row: 0 where it looks tokens up, infinite where it cannot be used."""
    if effort == STATIC:
        return 0.0
    if not effort.backward:
        try:
            return _seconds(forward_reader(effort, teacher.decoder).read, rows)
        except ModelError:
            return math.inf
    if teacher.checkpoints:
        return math.inf
    shortened = make_teacher(effort.reading(teacher.decoder), teacher.settings)
    shortened.load(teacher.state())
    return _seconds(lambda part: shortened.features(part, "pool"), rows)


def cheap_enough(cost: float, teacher: Teacher, rows: Sequence[Example]) -> dict[Effort, float]:
    """What each effort that costs at most this share of a gradient costs.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    if not 0 < cost <= 1:
        raise ConfigError(f"--cost is {cost:g}, expected a share of a gradient above 0 and at most 1, such as 10%.")
    gradient = _quicker(lambda: seconds_of_gradient(teacher, rows))
    costs = {effort: _quicker(partial(seconds_a_row, effort, teacher, rows)) / gradient for effort in DIAL}
    return {effort: share for effort, share in costs.items() if share <= cost}


def best_student(
    costs: dict[Effort, float], solve: Callable[[Effort], InfluenceEncoder]
) -> tuple[InfluenceEncoder, Effort, list[Tried]]:
    """The student that agrees best with the teacher on validation, and all that were tried."""
    students = {}
    with progress("students", len(costs)) as advance:
        for effort in costs:
            students[effort] = solve(effort)
            advance(1)
    tried = [Tried(effort, costs[effort], student.measured[JUDGED_BY]) for effort, student in students.items()]
    best = max(tried, key=lambda each: each.agreement).effort
    return students[best], best, tried


def _seconds(work: Callable[[Sequence[Example]], object], rows: Sequence[Example]) -> float:
    probe = measured_speed(work, rows, FEATURE_PROBE)
    return float(probe["seconds"] / probe["rows"])


def _quicker(measure: Callable[[], float]) -> float:
    """The smaller of two measurements: what else runs here only slows one down."""
    return min(measure(), measure())
