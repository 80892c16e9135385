"""Long work: started by one request, watched and stopped by others."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from influcoder.errors import InflucoderError
from influcoder.serve.problems import LOGGER, Problem, busy, not_found
from influcoder.serve.settings import MAX_JOBS
from influcoder.serve.wire import JobAnswer, JobStatus, MaskAnswer, ProblemBody, SearchAnswer
from influcoder.serve.worker import Worker

JobResult = SearchAnswer | MaskAnswer
KEPT_JOBS = 16
"""jobs that are remembered once they have ended"""
TICK = 0.2
"""seconds between two looks at a job"""
HEARTBEAT = 15.0
"""seconds without events after which watchers get a sign of life"""


class Cancelled(Exception):
    """A job was stopped."""


@dataclass
class Job:
    """Long work.

    Attributes:
        work: does it, is given the job, and calls `advance` between steps.
        selection: the selection whose tokens it masks; "" for a re-check.
        done, total: steps; total is 0 until it is known.
    """

    work: Callable[["Job"], JobResult]
    selection: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    status: JobStatus = "waiting"
    done: int = 0
    total: int = 0
    began: float = 0.0
    cancelled: bool = False
    result: JobResult | None = None
    problem: Problem | None = None

    @property
    def ended(self) -> bool:
        return self.status in ("done", "failed", "cancelled")

    def answer(self) -> JobAnswer:
        """The job as it goes over the wire."""
        seconds_left = None
        if self.status == "running" and self.done:
            seconds_left = (time.monotonic() - self.began) / self.done * (self.total - self.done)
        problem = None if self.problem is None else ProblemBody(**self.problem.json())
        return JobAnswer(
            id=self.id,
            status=self.status,
            done=self.done,
            total=self.total,
            seconds_left=seconds_left,
            result=self.result,
            problem=problem,
        )


class Jobs:
    """The jobs of a worker, by id."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def start(self, work: Callable[[Job], JobResult], selection: str = "") -> Job:
        """Start a job; the worker does it when no request waits.

        Raises:
            Problem: too many wait already.
        """
        if sum(not job.ended for job in self._jobs.values()) >= MAX_JOBS:
            raise busy(f"{MAX_JOBS} jobs are waiting already. Stop one, or ask again later.", 30)
        job = Job(work, selection)
        self._jobs[job.id] = job
        for ended in [job.id for job in self._jobs.values() if job.ended][:-KEPT_JOBS]:
            del self._jobs[ended]
        self._worker.add_job(lambda: self._run(job))
        return job

    def get(self, name: str) -> Job:
        """The job with an id.

        Raises:
            Problem: there is none.
        """
        if name not in self._jobs:
            raise not_found(f"no job {name!r}: it was never started, or ended long ago, or before a restart.")
        return self._jobs[name]

    def all(self) -> list[Job]:
        """Every job that is remembered, the oldest first."""
        return list(self._jobs.values())

    def cancel(self, name: str) -> Job:
        """Stop a job at its next step."""
        job = self.get(name)
        job.cancelled = True
        if job.status == "waiting":
            job.status = "cancelled"
        return job

    def advance(self, job: Job, done: int, total: int) -> None:
        """Record how far a job is, and serve waiting requests; called by its work.

        Raises:
            Cancelled: the job was stopped.
        """
        job.done, job.total = done, total
        self._worker.give_way()
        if job.cancelled or self._worker.stopping:
            raise Cancelled

    async def events(self, name: str) -> AsyncIterator[str]:
        """Server-sent events: `progress` whenever a job has moved, and one at its end, named by its status."""
        job, last_sent, silent = self.get(name), None, 0.0
        while True:
            ended = job.ended  # asked first: the answer of a job that has ended is its last
            answer = job.answer()
            if (answer.status, answer.done) != last_sent or ended:
                last_sent, silent = (answer.status, answer.done), 0.0
                kind = answer.status if ended else "progress"
                yield f"event: {kind}\ndata: {answer.model_dump_json()}\n\n"
            if ended or self._worker.stopping:
                return
            await asyncio.sleep(TICK)
            silent += TICK
            if silent >= HEARTBEAT:
                silent = 0.0
                yield ": still at it\n\n"

    def _run(self, job: Job) -> None:
        if job.ended:
            return
        job.status, job.began = "running", time.monotonic()
        try:
            job.result = job.work(job)
            job.status = "done"
        except Cancelled:
            job.status = "cancelled"
        except (Problem, InflucoderError) as error:
            job.problem = error if isinstance(error, Problem) else Problem.of(error)
            job.status = "failed"
        except Exception as error:
            LOGGER.error("job %s failed", job.id, exc_info=error)
            job.problem = Problem(500, "fault", "a fault of the program; the service's own log has the details.")
            job.status = "failed"
