"""Re-checks with real gradients: jobs that are started, watched and stopped."""

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from influcoder.serve.api.served import Served
from influcoder.serve.wire import JobAnswer, VerifyRequest

router = APIRouter(tags=["jobs"])


@router.post("/verify", status_code=202)
async def verify(request: VerifyRequest, explorer: Served, response: Response) -> JobAnswer:
    """Start to re-check the best candidates of both sides with the decoder's real gradients."""
    job = explorer.verify(request)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job.answer()


@router.get("/jobs")
async def jobs(explorer: Served) -> list[JobAnswer]:
    """Every job that is remembered, the oldest first, without its result."""
    return [job.answer().model_copy(update={"result": None}) for job in explorer.jobs.all()]


@router.get("/jobs/{job}")
async def job(job: str, explorer: Served) -> JobAnswer:
    """How far a job is, and what it found."""
    return explorer.jobs.get(job).answer()


@router.delete("/jobs/{job}")
async def cancel(job: str, explorer: Served) -> JobAnswer:
    """Stop a job at its next step."""
    return explorer.jobs.cancel(job).answer()


@router.get(
    "/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "`progress` events, and one at the end"}},
)
async def events(job: str, explorer: Served) -> StreamingResponse:
    """Server-sent events of a job: `progress`, then `done`, `failed` or `cancelled`; the data of each is the job."""
    explorer.jobs.get(job)
    return StreamingResponse(explorer.jobs.events(job), media_type="text/event-stream")
