"""Questions: rows that push the model towards an answer, how strongly every row does, and which tokens carry it."""

from fastapi import APIRouter

from influcoder.serve.api.served import Served
from influcoder.serve.wire import (
    Asked,
    Provenance,
    Question,
    ScoreAnswer,
    ScoreRequest,
    SearchAnswer,
    SearchRequest,
    TokensAnswer,
    TokensRequest,
)

router = APIRouter(tags=["questions"])


@router.post("/question")
async def question(request: Question, explorer: Served) -> Asked:
    """The question with its completion, the decoder's own where it has none, and what the decoder reads of it."""
    return await explorer.read(request)


@router.post("/search")
async def search(request: SearchRequest, explorer: Served) -> SearchAnswer:
    """The rows that push the model towards a completion, strongest first, and those that push it away."""
    return await explorer.search(request)


@router.post("/score")
async def score(request: ScoreRequest, explorer: Served) -> ScoreAnswer:
    """Score every row: how the scores are spread, those of some rows, and a page of rows in their order."""
    return await explorer.score(request)


@router.post("/tokens")
async def tokens(request: TokensRequest, explorer: Served) -> TokensAnswer:
    """Which tokens of some rows, and of the question's completion, carry the rows' influence."""
    return await explorer.tokens(request)


@router.get("/provenance")
def provenance(explorer: Served) -> Provenance:
    """What is served, and what made it."""
    explorer.refuse_unready()
    return explorer.provenance()
