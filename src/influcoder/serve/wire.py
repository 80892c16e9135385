"""What goes over the wire: the bodies of requests and answers, with their bounds and examples."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from influcoder.serve.settings import MAX_K, MAX_PAGE, MAX_TEXT, MAX_TOKEN_ROWS, MAX_VERIFY

PARIS = {"prompt": "What is the capital of France?", "completion": "Paris"}
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Where = Annotated[
    str | None,
    Field(
        max_length=2000,
        description="look only at rows whose metadata is like this, as `genre=code,tokens<200`: conditions on "
        "`filterable` columns, with = != < <= > >= and commas between them",
    ),
]
Containing = Annotated[
    str | None, Field(max_length=1000, description="only rows whose prompt or completion holds this, in any case")
]
RowNumber = Annotated[int, Field(ge=0, lt=2**62)]
RowNumbers = Annotated[list[RowNumber], Field(max_length=MAX_PAGE)]
_PAIR = {"type": "array", "minItems": 2, "maxItems": 2}
TokenShare = Annotated[tuple[str, float], WithJsonSchema({**_PAIR, "items": {"type": ["string", "number"]}})]
"""a token's text and its share"""
Turn = Annotated[tuple[str, str], WithJsonSchema({**_PAIR, "items": {"type": "string"}})]
"""a role and what it says"""
JobStatus = Literal["waiting", "running", "done", "failed", "cancelled"]


class Body(BaseModel):
    """A request's body: no field but those named, and no number that is none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def example(**body: Any) -> ConfigDict:
    """A body's config, with an example for the API's description."""
    return ConfigDict(extra="forbid", allow_inf_nan=False, json_schema_extra={"examples": [body]})


class Question(Body):
    """What the model was asked and what it said; or the id of a saved question."""

    prompt: Text | None = Field(None, description="what the model is asked, as a user's turn")
    completion: Text | None = Field(
        None, description="what it says, whose cause is sought; the decoder's own answer if left out"
    )
    query: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        None, description="the id of a question from `GET /queries`, instead"
    )
    model_config = example(**PARIS)

    @model_validator(mode="after")
    def _one_question(self) -> "Question":
        if (self.query is None) == (self.prompt is None):
            raise ValueError("give a prompt, and a completion if it is known; or the id of a query")
        if self.query is not None and self.completion is not None:
            raise ValueError("a query has its own completion; leave completion out")
        return self


class SearchRequest(Question):
    """Find the rows that push towards a completion, and those that push away from it."""

    k: int = Field(10, ge=1, le=MAX_K, description="how many rows of each side")
    where: Where = None
    model_config = example(**PARIS, k=5)


class VerifyRequest(SearchRequest):
    """Find them, and let the decoder's real gradients score the best candidates of both sides again."""

    verify: int = Field(50, ge=1, le=MAX_VERIFY, description="how many candidates of each side; at least k")
    certify: int = Field(0, ge=0, le=MAX_VERIFY, description="how many random rows of the others, for the bound")
    tokens: bool = Field(False, description="tell which tokens of each row, and of the answer, carry its influence")
    model_config = example(**PARIS, k=5, verify=20, certify=100)


class ScoreRequest(Question):
    """Score every row: how the scores are spread, and those of some rows, or of a page of them in their order."""

    rows: RowNumbers = Field([], description="rows whose scores and percentiles are wanted")
    order: Literal["highest", "lowest"] | None = Field(None, description="list rows from this end")
    offset: int = Field(0, ge=0, lt=2**62)
    limit: int = Field(50, ge=1, le=MAX_PAGE)
    where: Where = None
    text: Containing = None
    least: float | None = Field(None, description="list only rows that score at least this")
    most: float | None = Field(None, description="list only rows that score at most this")
    bins: int = Field(60, ge=1, le=200)
    model_config = example(**PARIS, order="highest", limit=20)


class TokensRequest(Question):
    """Tell which tokens carry the influence of some rows, by the decoder's real gradients."""

    rows: Annotated[list[RowNumber], Field(min_length=1, max_length=MAX_TOKEN_ROWS)]
    model_config = example(**PARIS, rows=[0, 7])


class Part(BaseModel):
    """A piece of what the decoder reads."""

    text: str
    loss: float = Field(description="how much each of its tokens counts; 0 for none")


class Read(BaseModel):
    """What the decoder reads of a question: its chat template's text, and which tokens of it are attributed."""

    parts: list[Part]
    tokens: int
    tokens_with_loss: int
    cut: list[str] = Field(description="what was cut to the length that is read")
    left_out: list[str] = Field(description="what the chat template leaves out")


class Asked(BaseModel):
    """A question as it was attributed."""

    id: str
    prompt: str
    completion: str
    own_answer: bool = Field(description="whether the completion is the own answer of the decoder that answers")
    read: Read | None = Field(None, description="what the decoder reads; null without one")


class Row(BaseModel):
    """A row of the pool."""

    row: int = Field(description="its place in the index, from 0")
    id: str
    prompt: str
    completion: str
    turns: list[Turn] = Field(description="the (role, content) pairs of a chat before its completion")
    metadata: dict[str, Any]


class Hit(Row):
    """A row of the pool and how strongly it acts on a question."""

    rank: int = Field(description="1 is the strongest of its side")
    score: float = Field(description="the encoder's estimate: above 0 raises the likelihood of the completion")
    exact: float | None = Field(None, description="the teacher's influence where it was re-checked")
    tokens: list[TokenShare] | None = Field(None, description="its tokens, and their shares in `exact`")
    answer_tokens: list[TokenShare] | None = Field(None, description="the same of the question's completion")


class Agreement(BaseModel):
    """How well a ranking is expected to agree with the teacher's: Spearman ρ, and the band of four in five queries."""

    rho: float
    low: float
    high: float


class Bound(BaseModel):
    """What a re-check proves of the rows that it left out."""

    sampled: int = Field(description="random rows among them that the teacher scored")
    above: int = Field(description="how many of these act more strongly than the last row shown")
    others: int = Field(description="rows that were not re-checked")
    at_most: float = Field(description="with this confidence, no larger share of the others acts more strongly")
    confidence: float


class SearchAnswer(BaseModel):
    """The rows that push towards a completion, strongest first, and those that push away from it."""

    question: Asked
    proponents: list[Hit]
    opponents: list[Hit]
    expected_agreement: Agreement | None
    certified: Bound | None = Field(None, description="of the proponents")
    certified_opponents: Bound | None = None


class Scored(BaseModel):
    """A row's score."""

    row: int
    score: float
    percentile: float = Field(description="the share of rows that score lower, from 0 to 100")


class ScoredRow(Row, Scored):
    """A row with its score."""


class Histogram(BaseModel):
    """How many rows score between two edges."""

    edges: list[float]
    counts: list[int]


class ScoreAnswer(BaseModel):
    """The scores of all rows."""

    question: Asked
    count: int
    mean: float
    positive: float = Field(description="the share of rows that score above 0")
    histogram: Histogram
    rows: list[Scored]
    listed: list[ScoredRow] = Field(description="the page that `order` asks for")
    matching: int = Field(description="rows that could be listed")


class RowTokens(BaseModel):
    """Which tokens carry a row's influence on a question: shares, above 0 for what pushes towards the completion."""

    row: int
    exact: float
    tokens: list[TokenShare]
    answer_tokens: list[TokenShare]


class TokensAnswer(BaseModel):
    """The tokens of some rows."""

    question: Asked
    rows: list[RowTokens]


class RowsAnswer(BaseModel):
    """A page of rows."""

    count: int
    matching: int
    offset: int
    rows: list[Row]


class ProblemBody(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class MaskAnswer(BaseModel):
    """A loss mask of the tokens of the rows that a selection keeps; an export has it as `influcoder_token_mask`."""

    share: float = Field(description="of all tokens, how many are masked at most")
    masked: int = Field(description="tokens that are left out")
    of: int = Field(description="tokens there are")


class JobAnswer(BaseModel):
    """Long work: how far it is, and what it found."""

    id: str
    status: JobStatus
    done: int = Field(description="rows that are re-checked, or masked")
    total: int = Field(description="rows there are; 0 until that is known")
    seconds_left: float | None
    result: SearchAnswer | MaskAnswer | None
    problem: ProblemBody | None


class Provenance(BaseModel):
    """What is served, and what made it."""

    version: str
    rows: int
    dim: int
    index: str = Field(description="the name of the index's folder")
    manifest: str = Field(description="the hash of the rows and of what made them")
    encoder: str = Field(description="the encoder's fingerprint")
    tier: str
    lance: bool = Field(description="whether the rows are in LanceDB")
    decoder: str | None = Field(description="the decoder that answers and re-checks, if there is one")
    answers_from: str | None = Field(description="the decoder that answers a prompt without a completion")
    made_by: dict[str, Any]
    measured: dict[str, Any] = Field(description="the encoder's agreement with its teacher on validation queries")
    filterable: list[str]
