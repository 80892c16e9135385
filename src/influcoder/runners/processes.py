"""Worker processes on this machine, among which its cores are divided."""

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

_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process in which torch has run may hang


class _Worker(NamedTuple):
    process: SpawnProcess
    pipe: "Connection[Any, Any]"


class Processes(Crew):
    """Runs tasks in `workers` other processes.

    Args:
        workers: how many; each gets its part of the cores as threads, unless OMP_NUM_THREADS is set.
        timeout_s: seconds without another row after which a worker is considered to hang, and is killed.

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
        pipe, worker_pipe = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_serve, args=(worker_pipe, self._threads), daemon=True)
        process.start()
        worker_pipe.close()  # so that reading from `pipe` ends when the worker does
        return _Worker(process, pipe)

    def give_job(self, worker: _Worker, job: Job[Any]) -> None:
        """Send the job, and wait until the worker has made it."""
        self._send(worker, job, lambda rows: None, None)

    def give_task(self, worker: _Worker, task: Any, advance: Advance) -> None:
        """Send a task, and wait until it is done."""
        self._send(worker, task, advance, self._timeout_s)

    def stop(self, worker: _Worker) -> None:
        """Kill the process."""
        worker.process.kill()
        worker.process.join()

    def _send(self, worker: _Worker, message: Any, advance: Advance, timeout_s: float | None) -> None:
        rows = 0
        try:
            worker.pipe.send(message)
            while worker.pipe.poll(timeout_s):
                answer = worker.pipe.recv()
                if answer is None:
                    return
                if isinstance(answer, InflucoderError):
                    raise answer
                rows += answer
                advance(answer)
            reason = f"it did no row in {timeout_s:g} s"
        except (EOFError, OSError):
            worker.process.join()
            reason = _ending(worker.process.exitcode or 0)
        advance(-rows)
        raise WorkerDied(reason)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ending(status: int) -> str:
    if status >= 0:
        return f"it ended with exit status {status}, its error is above"
    name = signal.Signals(-status).name
    return f"it was ended by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")


def _serve(pipe: "Connection[Any, Any]", threads: int) -> None:
    """The main function of a worker: it makes its job, then does tasks. Our own errors go back; others end it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's goes to all processes; the parent ends the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    if torch := sys.modules.get("torch"):  # imported already, as by a script that imports it at its top
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        work = pipe.recv().make()
        pipe.send(None)
        while True:
            work(pipe.recv(), pipe.send)
            pipe.send(None)
    except InflucoderError as error:
        pipe.send(error)
    except EOFError:  # no more tasks
        pass


def _end_with_parent() -> None:
    """End this worker when its parent ends: otherwise it would go on writing where the next run writes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
