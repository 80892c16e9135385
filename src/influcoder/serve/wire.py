"""What goes over the wire: the bodies of requests and answers, with their bounds and examples."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from influcoder.serve.settings import MAX_K, MAX_TEXT

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Where = Annotated[
    str | None,
    Field(
        max_length=2000,
        description="look only at rows whose metadata is like this, as `genre=code,tokens<200`: conditions on "
        "`filterable` columns, with = != < <= > >= and commas between them",
        examples=["genre=code,tokens<200"],
    ),
]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Body(BaseModel):
    """A request's body: no field but those named, and no number that is none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Question(Body):
    """What the model was asked and what it said; or the id of a question that is kept here."""

    prompt: Text | None = Field(None, description="what the model is asked, as a user's turn")
    completion: Text | None = Field(
        None, description="what it says, whose cause is sought; the decoder's own answer if left out"
    )
    query: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="the id of a question from `GET /queries`, instead"
    )

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

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"prompt": "What is the capital of France?", "completion": "Paris", "k": 5}],
        }
    )


class Asked(BaseModel):
    """A question as it was attributed."""

    id: str
    prompt: str
    completion: str
    own_answer: bool = Field(description="whether the completion is the decoder's own answer")


class Row(BaseModel):
    """A row of the pool."""

    row: int = Field(description="its place in the index, from 0")
    id: str
    prompt: str
    completion: str
    turns: list[tuple[str, str]] = Field(description="the (role, content) pairs of a chat before its completion")
    metadata: dict[str, Any]


class Hit(Row):
    """A row of the pool and how strongly it acts on a question."""

    rank: int = Field(description="1 is the strongest of its side")
    score: float = Field(description="the encoder's estimate: above 0 raises the likelihood of the completion")
    exact: float | None = Field(None, description="the teacher's influence where it was re-checked")


class Agreement(BaseModel):
    """How well a ranking is expected to agree with the teacher's: Spearman ρ, and the band of four in five queries."""

    rho: float
    low: float
    high: float


class SearchAnswer(BaseModel):
    """The rows that push towards a completion, strongest first, and those that push away from it."""

    question: Asked
    proponents: list[Hit]
    opponents: list[Hit]
    expected_agreement: Agreement | None


class Column(BaseModel):
    """What `where` can filter by."""

    name: str
    kind: Literal["text", "number", "boolean"]


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
    made_by: dict[str, Any]
    measured: dict[str, Any] = Field(description="the encoder's agreement with its teacher on validation queries")
    filterable: list[str]
