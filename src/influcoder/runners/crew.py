"""Workers in other processes, each served by a thread here that gives it a task at a time.

`concurrent.futures` and `multiprocessing.Pool` break, or wait for ever, when a worker is killed; here only its task
is lost, and is done again.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from influcoder.errors import WorkerError
from influcoder.runners.runner import Advance, Failed, Job, Task

TRIES = 3
_NONE_LEFT = object()


class WorkerDied(Exception):
    """The worker has ended, or does not answer; the message says how it ended."""


class Crew(ABC):
    """A runner with `workers` workers.

    A task whose worker dies is given to a new worker, up to three times in all, and then given up.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    @abstractmethod
    def start(self) -> Any:
        """A new worker."""

    @abstractmethod
    def give_job(self, worker: Any, job: Job[Any]) -> None:
        """Let a worker make its job. Raises WorkerDied, like `give_task`."""

    @abstractmethod
    def give_task(self, worker: Any, task: Any, advance: Advance) -> None:
        """Let a worker do a task, and wait until it is done; raises WorkerDied with nothing advanced."""

    @abstractmethod
    def stop(self, worker: Any) -> None:
        """End a worker, whatever it is doing, and wait until it has ended."""

    def run(self, job: Job[Task], tasks: Iterable[Task], advance: Advance) -> list[Failed[Task]]:
        """See `Runner`.

        Raises:
            WorkerError: workers die before their first task: no model, no memory.
        """
        run = _Run(self, job, tasks, advance)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="crew") as threads:
            futures = [threads.submit(run.serve_workers) for _ in range(self.workers)]
            try:
                ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in ended:
                    future.result()
            finally:  # after an error or a signal the others stop in the middle of their tasks
                run.end()
        return run.failed


class _Run:
    """A run of a crew."""

    def __init__(self, crew: Crew, job: Job[Task], tasks: Iterable[Task], advance: Advance) -> None:
        self.failed: list[Failed[Any]] = []
        self._crew, self._job, self._tasks, self._advance = crew, job, iter(tasks), advance
        self._lock = threading.Lock()
        self._over = False
        self._working: list[Any] = []

    def serve_workers(self) -> None:
        """Give tasks to a worker until there are none, and to a new worker whenever one dies."""
        worker = None
        for task in self._remaining():
            for attempt in range(1, TRIES + 1):
                try:
                    worker = worker or self._start()
                    self._crew.give_task(worker, task, self._advance)
                    break
                except WorkerDied as death:
                    if self._over:
                        return
                    self._stop(worker)
                    worker = None
                    if attempt == TRIES:
                        self.failed.append(Failed(task, str(death)))
        if worker:
            self._stop(worker)

    def end(self) -> None:
        """Stop every worker; the threads that serve them notice."""
        with self._lock:
            self._over = True
            working, self._working = self._working, []
        for worker in working:
            self._crew.stop(worker)

    def _remaining(self) -> Iterator[Any]:
        """The tasks that no thread has taken yet."""
        while True:
            with self._lock:
                task = next(self._tasks, _NONE_LEFT)
            if task is _NONE_LEFT or self._over:
                return
            yield task

    def _start(self) -> Any:
        for attempt in range(1, TRIES + 1):
            with self._lock:
                if self._over:
                    raise WorkerDied("the run is over")
                worker = self._crew.start()
                self._working.append(worker)
            try:
                self._crew.give_job(worker, self._job)
                return worker
            except WorkerDied as death:
                self._stop(worker)
                if attempt == TRIES and not self._over:
                    raise WorkerError(
                        f"a worker cannot start: {death}, {TRIES} times. Give fewer --workers if memory ran out: "
                        "each holds its own model."
                    ) from death
        raise WorkerDied("the run is over")

    def _stop(self, worker: Any) -> None:
        with self._lock:
            if worker in self._working:
                self._working.remove(worker)
        self._crew.stop(worker)
