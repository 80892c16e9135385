"""Actors of a Ray cluster, by Ray Core alone: Ray Data's tasks and the actors could wait for each other for ever."""

import os
from typing import Any

from influcoder.errors import ConfigError, InflucoderError
from influcoder.extras import optional
from influcoder.runners.crew import Crew, WorkerDied
from influcoder.runners.runner import Advance, Job


class RayActors(Crew):
    """Runs tasks in actors of a Ray cluster, one per GPU if it has any, otherwise one per CPU.

    Every machine needs this package and the same files under the same paths. An actor has one CPU and so one thread.

    Args:
        address: of the cluster; "auto" for the cluster of this machine, "local" to start one here.
        workers: how many actors; as many as the cluster has room for when omitted.
        timeout_s: seconds for a task, after which its actor is considered to hang, and is killed.

    Raises:
        MissingDependency: Ray is not installed.
        ConfigError: there is no such cluster, or it has room for fewer actors.
    """

    def __init__(self, address: str = "auto", *, workers: int | None = None, timeout_s: float | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = self._ray = optional("ray")
        if not ray.is_initialized():
            _connect(ray, address)
        resources = ray.cluster_resources()
        kind = "GPU" if resources.get("GPU") else "CPU"
        free = int(resources.get(kind, 0))
        workers = free if workers is None else workers
        if not 1 <= workers <= free:
            raise ConfigError(
                f"--workers is {workers}, the Ray cluster has {free} {kind}s: actors beyond them would wait for ever. "
                f"Give 1 to {free}."
            )
        super().__init__(workers)
        self._timeout_s = timeout_s
        self._actor = ray.remote(num_cpus=1, num_gpus=int(kind == "GPU"))(_Actor)

    def start(self) -> Any:
        """An actor that waits for its job."""
        return self._actor.remote()

    def give_job(self, worker: Any, job: Job[Any]) -> None:
        """Send the job, and wait until the actor has made it."""
        self._wait(worker.take_job.remote(job), None)

    def give_task(self, worker: Any, task: Any, advance: Advance) -> None:
        """Send a task, and wait until it is done."""
        advance(self._wait(worker.do_task.remote(task), self._timeout_s))

    def stop(self, worker: Any) -> None:
        """Kill the actor."""
        self._ray.kill(worker)

    def _wait(self, answer: Any, timeout_s: float | None) -> int:
        errors = self._ray.exceptions
        try:
            return int(self._ray.get(answer, timeout=timeout_s))
        except errors.GetTimeoutError as error:
            raise WorkerDied(f"it was not done in {timeout_s:g} s") from error
        except errors.RayTaskError as error:
            if isinstance(error.cause, InflucoderError):
                raise error.cause from None
            raise WorkerDied(f"its work failed with {error.cause!r}") from error
        except errors.RayError as error:
            raise WorkerDied(f"it died ({type(error).__name__}), as when memory runs out") from error


def _connect(ray: Any, address: str) -> None:
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster at {address!r}: {str(error).splitlines()[0]} Start one with `ray start --head`, give "
            "its address, or `local` to start one here."
        ) from error


class _Actor:
    def take_job(self, job: Job[Any]) -> int:
        self._work = job.make()
        return 0

    def do_task(self, task: Any) -> int:
        rows: list[int] = []
        self._work(task, rows.append)
        return sum(rows)
