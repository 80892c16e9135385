"""What a runner is: it does a job's tasks, each whole or not at all."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from influcoder.errors import WorkerError

Task = TypeVar("Task")
Given = TypeVar("Given", contravariant=True)
Advance = Callable[[int], None]
"""told how many more rows are done; fewer than none where a task has to be done again"""


class Job(Protocol[Given]):
    """What is done to each task: a shard's number, with whatever else the worker needs. Both travel pickled."""

    def make(self) -> Callable[[Given, Advance], None]:
        """Load what the work needs, once a worker; gives what does a task, whole or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class Failed(Generic[Task]):
    """A task that was given up, and what became of the last worker that tried it."""

    task: Task
    why: str


def refuse_given_up(
    failed: Sequence[Failed[Task]], place: Callable[[Task], Path], remedy: str, total: int | None = None
) -> None:
    """Stop where shards were given up.

    Args:
        place: where a task's shard would be.
        remedy: what to take less of if memory ran out.
        total: how many tasks there were, where that is known.

    Raises:
        WorkerError: some were; the message names the first five.
    """
    if failed:
        named = "; ".join(f"{place(one.task)}: {one.why}" for one in failed[:5])
        many = str(len(failed)) if total is None else f"{len(failed)} of {total}"
        raise WorkerError(
            f"{many} shards were given up after their workers died again and again, the others are written. "
            f"{named}{'; ...' if len(failed) > 5 else ''}. Run the same command with --resume, and with {remedy} if "
            "memory ran out."
        )


class Runner(Protocol):
    """Does tasks somewhere."""

    def run(self, job: Job[Task], tasks: Iterable[Task], advance: Advance) -> list[Failed[Task]]:
        """Do every task; returns those that were given up. An error that the work itself raises ends the run."""
        ...


class InProcess:
    """Does one task after the other, here."""

    def run(self, job: Job[Task], tasks: Iterable[Task], advance: Advance) -> list[Failed[Task]]:
        """See `Runner`."""
        work = job.make()
        for task in tasks:
            work(task, advance)
        return []
