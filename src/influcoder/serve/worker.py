"""The one thread that computes: it owns the decoder and asks the index; requests wait for it in a bounded queue."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from influcoder.serve.problems import busy
from influcoder.serve.settings import MAX_WAITING

T = TypeVar("T")


class Worker:
    """Runs what it is given, one after the other, in a thread of its own.

    A long job calls `give_way` between its steps, and those who wait are then served first.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._condition = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="influcoder-worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being computed, and nothing else."""
        with self._condition:
            self._stopped = True
            for future, _ in self._waiting:
                future.cancel()
            self._waiting.clear()
            self._jobs.clear()
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def stopping(self) -> bool:
        """Whether what is being computed is to end soon."""
        return self._stopped

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns; whoever does not wait for it any longer is not worked for.

        Raises:
            Problem: too many wait already.
        """
        future: Future[T] = Future()
        with self._condition:
            if self._stopped:
                raise busy("the service is shutting down.", 5, 503)
            if len(self._waiting) >= MAX_WAITING:
                raise busy(f"{MAX_WAITING} requests are waiting already. Ask again in a few seconds.", 2)
            self._waiting.append((future, work))
            self._condition.notify()
        return await asyncio.wrap_future(future)

    def add_job(self, job: Callable[[], None]) -> None:
        """Work that has time: done when nobody waits."""
        with self._condition:
            self._jobs.append(job)
            self._condition.notify()

    def give_way(self) -> None:
        """Serve those who wait; called by a job, in this thread, where it can be interrupted."""
        while (waiting := self._next()) is not None:
            self._serve(*waiting)

    def _next(self) -> "tuple[Future[Any], Callable[[], Any]] | None":
        with self._condition:
            return self._waiting.popleft() if self._waiting else None

    def _run(self) -> None:
        while True:
            with self._condition:
                while not (self._waiting or self._jobs or self._stopped):
                    self._condition.wait()
                if self._stopped:
                    return
                job = None if self._waiting else self._jobs.popleft()
            if job is None:
                self.give_way()
            else:
                job()

    def _serve(self, future: "Future[Any]", work: Callable[[], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as error:  # told to the one who waits
            future.set_exception(error)
