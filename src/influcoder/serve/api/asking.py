"""Questions: search, and what is known of the service."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from influcoder.serve.explorer import Explorer
from influcoder.serve.wire import Provenance, SearchAnswer, SearchRequest

router = APIRouter()


def explorer_of(request: Request) -> Explorer:
    """What is served."""
    explorer: Explorer = request.app.state.explorer
    return explorer


Served = Annotated[Explorer, Depends(explorer_of)]


@router.post("/search")
async def search(asked: SearchRequest, explorer: Served) -> SearchAnswer:
    """The rows that push the model towards a completion, strongest first, and those that push it away."""
    return await explorer.search(asked)


@router.get("/provenance")
def provenance(explorer: Served) -> Provenance:
    """What is served, and what made it."""
    explorer.refuse_unready()
    return explorer.provenance()
