"""What goes over the wire of selections: how they are made, marked, told and exported."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from influcoder.serve.settings import MAX_BATCH, MAX_MARKS
from influcoder.serve.wire import PARIS, Body, Containing, MaskAnswer, Question, RowNumbers, Where, example

Mark = Literal["keep", "drop", "later", "none"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Note = Annotated[str, StringConstraints(max_length=2000)]
ExportedRows = Literal["kept", "rejected", "all"]
ExportFormat = Literal["jsonl", "parquet", "ids"]


class Rule(Body):
    """Which rows are kept by their mean influence on the selection's questions: exactly one of the three."""

    top: float | None = Field(None, gt=0, le=1, description="keep this share of highest scores")
    drop: float | None = Field(None, gt=0, le=1, description="leave this share of highest scores out")
    threshold: float | None = Field(None, description="keep scores of at least this")
    model_config = example(top=0.05)

    @model_validator(mode="after")
    def _one_rule(self) -> "Rule":
        if sum(value is not None for value in (self.top, self.drop, self.threshold)) != 1:
            raise ValueError("give exactly one of top, drop and threshold")
        return self


class MarkRequest(Body):
    """Mark some rows, or all that a filter leaves; `later` changes what is told alone, `none` takes marks away."""

    mark: Mark
    rows: RowNumbers = Field([], description="which rows")
    matching: bool = Field(False, description="all rows that where, text, least and most leave, instead")
    where: Where = None
    text: Containing = None
    least: float | None = Field(None, description="only rows that score at least this on the selection's questions")
    most: float | None = Field(None, description="only rows that score at most this")
    note: Note = ""
    model_config = example(mark="drop", matching=True, where="genre=code", note="no code in this model")

    @model_validator(mode="after")
    def _some_rows(self) -> "MarkRequest":
        filtered = (self.where, self.text, self.least, self.most)
        if self.matching == bool(self.rows):
            raise ValueError("give rows, or matching: true with a filter")
        if self.rows and any(value is not None for value in filtered):
            raise ValueError("rows are named one by one: leave where, text, least and most out")
        return self


class SelectRequest(Body):
    """Make a selection: by a rule over some questions, by marks, or by both; marks come before the rule."""

    name: Name
    questions: Annotated[list[Question], Field(max_length=MAX_BATCH)] = Field([], description="whose influence counts")
    rule: Rule | None = None
    rest: Literal["keep", "drop"] = Field("keep", description="what becomes of rows without mark and without a rule")
    marks: Annotated[list[MarkRequest], Field(max_length=MAX_MARKS)] = Field([], description="to begin with")
    model_config = example(name="towards Paris", questions=[PARIS], rule={"top": 0.05})

    @model_validator(mode="after")
    def _something_to_go_by(self) -> "SelectRequest":
        if self.rule is not None and not self.questions:
            raise ValueError("a rule goes by the influence on questions: give some")
        return self


class MaskRequest(Body):
    """Mask the tokens of the kept rows that push away from what is wanted."""

    share: float = Field(0.05, gt=0, le=1, description="of all their tokens, how many are masked at most")
    model_config = example(share=0.05)


class Counts(Body):
    """How many rows."""

    kept: int
    rejected: int
    keep: int = Field(description="marked so")
    drop: int
    later: int


class SelectionAnswer(Body):
    """A selection."""

    id: str
    name: str
    created: str
    questions: int
    rule: Rule | None
    rest: Literal["keep", "drop"]
    actions: int = Field(description="how many can be undone")
    counts: Counts | None = Field(description="null where the index has other rows than when it was made")
    mask: MaskAnswer | None = Field(description="the loss mask of its kept rows, if one was made of these rows")
    replay: str = Field(description="the command that makes it again")


class MarkedRow(Body):
    """A row with what is said of it."""

    row: int
    mark: Mark
    kept: bool
    score: float | None
    percentile: float | None
    reason: str
    note: str


class MarkedRows(Body):
    """Some rows of a selection."""

    matching: int
    rows: list[MarkedRow]


class SavedQuestion(Body):
    """A question that is kept here."""

    id: str
    prompt: str
    completion: str
