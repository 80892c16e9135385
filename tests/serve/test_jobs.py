"""Jobs of the service, apart from a server."""

import asyncio
from types import SimpleNamespace

from influcoder.serve.jobs import Job, Jobs


class EndsWhileItIsAsked(Job):
    """Its worker finishes between the answer that is taken and the next look."""

    def answer(self):
        answer = super().answer()
        self.status = "done"
        return answer


def test_watchers_are_told_the_end_of_a_job_that_ends_while_it_is_asked():
    jobs = Jobs(SimpleNamespace(add_job=lambda run: None, stopping=False))
    job = EndsWhileItIsAsked(work=lambda job: None, status="running")
    jobs._jobs[job.id] = job

    async def watched():
        return [event.splitlines()[0] async for event in jobs.events(job.id)]

    assert asyncio.run(watched()) == ["event: progress", "event: done"]
