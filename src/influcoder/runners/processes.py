"""Worker processes on this machine, its cores divided among them."""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from influcoder.errors import ConfigError, InflucoderError
from influcoder.runners.crew import Crew, WorkerDied
from influcoder.runners.runner import Advance, Job

_NEW = multiprocessing.get_context("spawn")  # a fork of a process in which torch has run may hang


class _Worker(NamedTuple):
    process: SpawnProcess
    pipe: "Connection[Any, Any]"


class Processes(Crew):
    """Does tasks in `workers` processes beside this one.

    Args:
        workers: how many; each has its part of the cores as threads, unless OMP_NUM_THREADS says otherwise.
        timeout_s: seconds without one more row after which a worker is taken for hanging, and killed.

    Raises:
        ConfigError: fewer than one worker.
    """

    def __init__(self, workers: int, *, timeout_s: float | None = None) -> None:
        if workers < 1:
            raise ConfigError(f"--workers is {workers}, expected at least 1.")
        super().__init__(workers)
        self._timeout_s = timeout_s
        self._threads = max(1, cores() // workers)

    def start(self) -> _Worker:
        """A process that waits for its job."""
        ours, its = _NEW.Pipe()
        process = _NEW.Process(target=_serve, args=(its, self._threads), daemon=True)
        process.start()
        its.close()  # so that reading from ours ends when the worker does
        return _Worker(process, ours)

    def brief(self, worker: _Worker, job: Job[Any]) -> None:
        """Send the job, and wait until the worker has made it."""
        self._give(worker, job, _ignore, None)

    def ask(self, worker: _Worker, task: Any, advance: Advance) -> None:
        """Send a task, and wait until it is done."""
        self._give(worker, task, advance, self._timeout_s)

    def stop(self, worker: _Worker) -> None:
        """Kill the process."""
        worker.process.kill()
        worker.process.join()

    def _give(self, worker: _Worker, what: Any, advance: Advance, timeout_s: float | None) -> None:
        told = 0
        try:
            worker.pipe.send(what)
            while worker.pipe.poll(timeout_s):
                answer = worker.pipe.recv()
                if answer is None:
                    return
                if isinstance(answer, InflucoderError):
                    raise answer
                told += answer
                advance(answer)
            why = f"it did no row in {timeout_s:g} s"
        except (EOFError, OSError):
            worker.process.join()
            why = _ending(worker.process.exitcode or 0)
        advance(-told)
        raise WorkerDied(why)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ignore(_: int) -> None:
    """Making a job does no rows."""


def _ending(status: int) -> str:
    if status >= 0:
        return f"it ended with exit status {status}, its error is above"
    name = signal.Signals(-status).name
    return f"it was ended by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")


def _serve(pipe: "Connection[Any, Any]", threads: int) -> None:
    """What runs in a worker: it makes its job, then does what comes. Our own errors go back; others end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's goes to all; the first process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    if torch := sys.modules.get("torch"):  # a script that imports it has done so here as well
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        work = pipe.recv().make()
        pipe.send(None)
        while True:
            work(pipe.recv(), pipe.send)
            pipe.send(None)
    except InflucoderError as error:
        pipe.send(error)
    except EOFError:  # nothing more to do
        pass


def _end_with_parent() -> None:
    """A worker that outlived its parent would go on writing where the next run writes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
