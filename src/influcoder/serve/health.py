"""Whether the service is running, and whether it is ready."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """How the service is."""

    status: Literal["alive", "ready", "loading", "changed"]


@router.get("/healthz")
async def alive() -> Health:
    """Whether the process answers at all."""
    return Health(status="alive")


@router.get(
    "/readyz", responses={503: {"model": Health, "description": "still loading, or the index was changed on the disk"}}
)
async def ready(request: Request, response: Response) -> Health:
    """Whether encoder and decoder are loaded, and the index is as it was when they were."""
    explorer = request.app.state.explorer
    if explorer.ready and not explorer.changed:
        return Health(status="ready")
    response.status_code, response.headers["Retry-After"] = 503, "2"
    return Health(status="changed" if explorer.ready else "loading")
