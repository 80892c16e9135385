"""Whether the service is there, and whether it can be asked."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """How the service is."""

    status: Literal["alive", "ready", "loading"]


@router.get("/healthz")
async def alive() -> Health:
    """Whether the process answers at all."""
    return Health(status="alive")


@router.get("/readyz", responses={503: {"model": Health, "description": "still loading"}})
async def ready(request: Request, response: Response) -> Health:
    """Whether encoder and decoder are loaded."""
    if request.app.state.explorer.ready:
        return Health(status="ready")
    response.status_code, response.headers["Retry-After"] = 503, "2"
    return Health(status="loading")
