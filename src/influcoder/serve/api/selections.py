"""Selections: made, marked, undone, shown, exported; kept through restarts."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from influcoder.data.columns import to_json
from influcoder.serve import exports
from influcoder.serve.api.served import Served
from influcoder.serve.settings import MAX_PAGE
from influcoder.serve.wire import JobAnswer, RowNumber
from influcoder.serve.wire_selections import (
    ExportedRows,
    ExportFormat,
    Mark,
    MarkedRows,
    MarkRequest,
    MaskRequest,
    Rule,
    SelectionAnswer,
    SelectRequest,
)
from influcoder.verbs.opening import open_whole_index

router = APIRouter(tags=["selections"])
LINES = "application/jsonl"


@router.get("/selections")
def selections(explorer: Served) -> list[SelectionAnswer]:
    """Every selection, the oldest first."""
    return explorer.selections.all()


@router.post("/selections", status_code=201)
async def make(request: SelectRequest, explorer: Served, response: Response) -> SelectionAnswer:
    """Make a selection: by a rule over questions, by marks, or by both."""
    answer = await explorer.selections.make(request)
    response.headers["Location"] = f"/api/v1/selections/{answer.id}"
    return answer


@router.get("/selections/{selection}")
def selection(selection: str, explorer: Served) -> SelectionAnswer:
    """One selection."""
    return explorer.selections.answer(selection)


@router.delete("/selections/{selection}", status_code=204)
def remove(selection: str, explorer: Served) -> None:
    """Forget a selection."""
    explorer.selections.remove(selection)


@router.post("/selections/{selection}/marks")
def mark(selection: str, request: MarkRequest, explorer: Served) -> SelectionAnswer:
    """Mark rows by hand: some, or all that a filter leaves."""
    return explorer.selections.mark(selection, request)


@router.put("/selections/{selection}/rule")
def rule(selection: str, request: Rule, explorer: Served) -> SelectionAnswer:
    """Keep rows by another rule; nothing is scored again."""
    return explorer.selections.rule(selection, request)


@router.post("/selections/{selection}/undo")
def undo(selection: str, explorer: Served) -> SelectionAnswer:
    """Take the last mark or rule back."""
    return explorer.selections.undo(selection)


@router.post("/selections/{selection}/mask", status_code=202)
async def mask_tokens(selection: str, request: MaskRequest, explorer: Served, response: Response) -> JobAnswer:
    """Start to mask the tokens of the kept rows that push away from what is wanted; exports then hold the mask."""
    explorer.refuse_unready()
    job = explorer.selections.masks.start(selection, request.share)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job.answer()


@router.get("/selections/{selection}/rows")
def rows(
    selection: str,
    explorer: Served,
    row: Annotated[
        list[RowNumber] | None, Query(max_length=MAX_PAGE, description="which rows; else all marked")
    ] = None,
    mark: Mark | None = None,
    offset: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> MarkedRows:
    """What is said of some rows."""
    return explorer.selections.rows(selection, row or [], mark, offset, limit)


@router.get("/selections/{selection}/recipe")
def recipe(selection: str, explorer: Served) -> SelectRequest:
    """The request that makes the same selection again."""
    return explorer.selections.recipe(selection)


@router.get("/selections/{selection}/questions", responses={200: {"content": {LINES: {}}}})
def questions(selection: str, explorer: Served) -> Response:
    """Its questions as a JSONL file, for `influcoder select --queries`."""
    lines = [to_json(row) + b"\n" for row in explorer.selections.questions(selection)]
    return Response(b"".join(lines), media_type=LINES, headers=_named(selection, "questions.jsonl"))


@router.get("/selections/{selection}/export", responses={200: {"content": {LINES: {}}}})
def export(selection: str, explorer: Served, rows: ExportedRows = "kept", format: ExportFormat = "jsonl") -> Response:
    """Its rows in the pool's own columns, with score, percentile, weight, reason, note and mask; or their ids alone."""
    index, marked = open_whole_index(explorer.index), explorer.selections.marked(selection)
    headers = _named(selection, f"{rows}.{'json' if format == 'ids' else format}")
    if format == "ids":
        return Response(exports.ids(index, marked, rows), media_type="application/json", headers=headers)
    masks = explorer.selections.masks.of(selection, marked)
    if format == "jsonl":
        return StreamingResponse(exports.jsonl(index, marked, rows, masks), media_type=LINES, headers=headers)
    table = exports.parquet(index, marked, rows, explorer.selections.answer(selection).replay, masks)
    return Response(table, media_type="application/vnd.apache.parquet", headers=headers)


def _named(selection: str, file: str) -> dict[str, str]:
    """A download's name: made of what this service gave, and of nothing that a client sent."""
    return {"Content-Disposition": f'attachment; filename="selection-{selection[:16]}-{file}"'}
