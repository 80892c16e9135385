"""Questions: what pushes the model towards an answer, how strongly every row does, and which tokens carry it."""

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
async def question(asked: Question, explorer: Served) -> Asked:
    """The question with its completion, the decoder's own where it has none, and what the decoder reads of it."""
    return await explorer.read(asked)


@router.post("/search")
async def search(asked: SearchRequest, explorer: Served) -> SearchAnswer:
    """The rows that push the model towards a completion, strongest first, and those that push it away."""
    return await explorer.search(asked)


@router.post("/score")
async def score(asked: ScoreRequest, explorer: Served) -> ScoreAnswer:
    """Score every row: how the scores are spread, those of some rows, and a page of rows in their order."""
    return await explorer.score(asked)


@router.post("/tokens")
async def tokens(asked: TokensRequest, explorer: Served) -> TokensAnswer:
    """Which tokens of some rows, and of the question's completion, carry the rows' influence."""
    return await explorer.tokens(asked)


@router.get("/provenance")
def provenance(explorer: Served) -> Provenance:
    """What is served, and what made it."""
    return explorer.provenance()
