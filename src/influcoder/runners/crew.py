"""Workers elsewhere, each led by a thread here that hands it one task at a time.

`concurrent.futures` and `multiprocessing.Pool` break, or wait for ever, when a worker is killed; here only its task
is lost, and done again.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from influcoder.errors import WorkerError
from influcoder.runners.runner import Advance, Failed, Job, Task

TRIES = 3


class WorkerDied(Exception):
    """The worker is gone, or does not answer; the message says how it ended."""


class Crew(ABC):
    """A runner with `workers` workers.

    A task whose worker dies is done again by a new one, three times at most, and then given up.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @abstractmethod
    def start(self) -> Any:
        """A new worker."""

    @abstractmethod
    def brief(self, worker: Any, job: Job[Any]) -> None:
        """Let a worker make its job. Raises WorkerDied, as `ask`."""

    @abstractmethod
    def ask(self, worker: Any, task: Any, advance: Advance) -> None:
        """Let a worker do a task, and wait until it is done; raises WorkerDied with nothing advanced."""

    @abstractmethod
    def stop(self, worker: Any) -> None:
        """End a worker, whatever it is doing, and wait until it is gone."""

    def run(self, job: Job[Task], tasks: Iterable[Task], advance: Advance) -> list[Failed[Task]]:
        """See `Runner`.

        Raises:
            WorkerError: workers die before their first task: no model, no memory.
        """
        shift = _Shift(self, job, tasks, advance)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="crew") as threads:
            leads = [threads.submit(shift.lead) for _ in range(self.workers)]
            try:
                ended, _ = wait(leads, return_when=FIRST_EXCEPTION)
                for lead in ended:
                    lead.result()
            finally:  # after an error or a signal the others stop in the middle of their tasks
                shift.end()
        return shift.failed


class _Shift:
    """One run of a crew."""

    def __init__(self, crew: Crew, job: Job[Task], tasks: Iterable[Task], advance: Advance) -> None:
        self.failed: list[Failed[Any]] = []
        self._crew, self._job, self._tasks, self._advance = crew, job, iter(tasks), advance
        self._lock = threading.Lock()
        self._over = False
        self._working: list[Any] = []

    def lead(self) -> None:
        """Have one worker after the other do tasks until there are none."""
        worker = None
        while (next_one := self._next()) and not self._over:
            (task,) = next_one
            for attempt in range(1, TRIES + 1):
                try:
                    worker = worker or self._hire()
                    self._crew.ask(worker, task, self._advance)
                    break
                except WorkerDied as death:
                    if self._over:
                        return
                    self._dismiss(worker)
                    worker = None
                    if attempt == TRIES:
                        self.failed.append(Failed(task, str(death)))
        if worker:
            self._dismiss(worker)

    def end(self) -> None:
        """Stop every worker; those that lead them notice."""
        with self._lock:
            self._over = True
            working, self._working = self._working, []
        for worker in working:
            self._crew.stop(worker)

    def _next(self) -> "tuple[Any] | None":
        with self._lock:
            for task in self._tasks:
                return (task,)
        return None

    def _hire(self) -> Any:
        for attempt in range(1, TRIES + 1):
            with self._lock:
                if self._over:
                    raise WorkerDied("the run is over")
                worker = self._crew.start()
                self._working.append(worker)
            try:
                self._crew.brief(worker, self._job)
                return worker
            except WorkerDied as death:
                self._dismiss(worker)
                if attempt == TRIES and not self._over:
                    raise WorkerError(
                        f"a worker cannot start: {death}, {TRIES} times. Give fewer --workers if memory ran out: "
                        "each holds a model of its own."
                    ) from death
        raise WorkerDied("the run is over")

    def _dismiss(self, worker: Any) -> None:
        with self._lock:
            if worker in self._working:
                self._working.remove(worker)
        self._crew.stop(worker)
