"""The one thread that computes: it owns the decoder and reads the index; requests wait for it in a bounded queue."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from influcoder.serve.problems import busy
from influcoder.serve.settings import MAX_WAITING

LOGGER = logging.getLogger("influcoder.serve")
S = TypeVar("S")
T = TypeVar("T")
TOGETHER = 64
"""requests that are answered at once"""


class Worker:
    """Runs what it is given, one after the other, in a thread of its own.

    A long job calls `give_way` between its steps, and waiting requests are then served first.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._condition = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="influcoder-worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current work and drop the rest."""
        with self._condition:
            self._stopped = True
            for request in self._waiting:
                request.future.cancel()
            self._waiting.clear()
            self._jobs.clear()
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def stopping(self) -> bool:
        """Whether the current work should end soon."""
        return self._stopped

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns; a request that is cancelled meanwhile is not computed.

        Raises:
            Problem: too many wait already.
        """
        result: T = await self._result(_Waiting(lambda _: [work()]))
        return result

    async def run_together(self, kind: Hashable, item: S, work: Callable[[list[S]], list[T]]) -> T:
        """The same for work that is done at once for all requests with the same `work` and kind: a result an item.

        If it fails for several together, it is done for each alone.
        """
        result: T = await self._result(_Waiting(work, item, (work, kind)))
        return result

    async def _result(self, waiting: "_Waiting") -> Any:
        with self._condition:
            if self._stopped:
                raise busy("the service is shutting down.", 5, 503)
            if len(self._waiting) >= MAX_WAITING:
                raise busy(f"{MAX_WAITING} requests are waiting already. Ask again in a few seconds.", 2)
            self._waiting.append(waiting)
            self._condition.notify()
        return await asyncio.wrap_future(waiting.future)

    def add_job(self, job: Callable[[], None]) -> None:
        """Add work that is done when no request waits."""
        with self._condition:
            self._jobs.append(job)
            self._condition.notify()

    def give_way(self) -> None:
        """Serve waiting requests; called by a job in this thread, where it can be interrupted."""
        while waiting := self._next():
            _serve(waiting)

    def _next(self) -> "list[_Waiting]":
        """The first waiting request, and those that can be served with it."""
        with self._condition:
            if not self._waiting:
                return []
            chosen = [first := self._waiting.popleft()]
            if first.kind is not None:
                chosen += [request for request in self._waiting if request.kind == first.kind][: TOGETHER - 1]
                self._waiting = deque(request for request in self._waiting if request not in chosen)
            return chosen

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


@dataclass(eq=False)
class _Waiting:
    """A waiting request: `work` for an item, alone or with others of the same kind."""

    work: Callable[[list[Any]], list[Any]]
    item: Any = None
    kind: Hashable | None = None
    future: "Future[Any]" = field(default_factory=Future)


def _serve(waiting: list[_Waiting]) -> None:
    waiting = [request for request in waiting if request.future.set_running_or_notify_cancel()]
    if len(waiting) > 1:
        try:
            results = waiting[0].work([request.item for request in waiting])
        except Exception:  # raised again for the request that caused it, below
            LOGGER.debug("one of %d requests failed", len(waiting))
        else:
            for request, result in zip(waiting, results, strict=True):
                request.future.set_result(result)
            return
    for request in waiting:
        try:
            request.future.set_result(request.work([request.item])[0])
        except BaseException as error:  # raised where the request waits
            request.future.set_exception(error)
