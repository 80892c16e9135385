"""The protocol of a runner: it does the tasks of a job, each whole or not at all."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from influcoder.errors import WorkerError

Task = TypeVar("Task")
Given = TypeVar("Given", contravariant=True)
Advance = Callable[[int], None]
"""called with the number of further rows that are done; negative if a task must be done again"""


class Job(Protocol[Given]):
    """The work that is done on each task: a shard's number, with whatever else a worker needs. Both are pickled."""

    def make(self) -> Callable[[Given, Advance], None]:
        """Load what the work needs, once per worker; returns the function that does a task, whole or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class Failed(Generic[Task]):
    """A task that was given up, and why the last worker that tried it ended."""

    task: Task
    why: str


def refuse_given_up(
    failed: Sequence[Failed[Task]], place: Callable[[Task], Path], remedy: str, total: int | None = None
) -> None:
    """Raise an error if shards were given up.

    Args:
        place: where a task's shard would be.
        remedy: what to reduce if memory ran out.
        total: how many tasks there were, if that is known.

    Raises:
        WorkerError: shards were given up; the message names the first five.
    """
    if failed:
        reasons = "; ".join(f"{place(failure.task)}: {failure.why}" for failure in failed[:5])
        count = str(len(failed)) if total is None else f"{len(failed)} of {total}"
        raise WorkerError(
            f"{count} shards were given up after their workers died again and again, the others are written. "
            f"{reasons}{'; ...' if len(failed) > 5 else ''}. Run the same command with --resume, and with {remedy} if "
            "memory ran out."
        )


class Runner(Protocol):
    """Runs the tasks of a job."""

    def run(self, job: Job[Task], tasks: Iterable[Task], advance: Advance) -> list[Failed[Task]]:
        """Do every task; returns those that were given up. An error that the work itself raises ends the run."""
        ...


class InProcess:
    """Runs one task after the other in this process."""

    def run(self, job: Job[Task], tasks: Iterable[Task], advance: Advance) -> list[Failed[Task]]:
        """See `Runner`."""
        work = job.make()
        for task in tasks:
            work(task, advance)
        return []
