"""The pool's rows, without a question: a page, one row, and one as its file has it."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from influcoder.serve import rows as pool
from influcoder.serve.api.served import Served
from influcoder.serve.settings import MAX_PAGE
from influcoder.serve.wire import Containing, Row, RowsAnswer, Where

router = APIRouter(tags=["rows"])
Number = Annotated[int, Path(ge=0, lt=2**62)]


@router.get("/rows")
def rows(
    explorer: Served,
    where: Annotated[Where, Query()] = None,
    text: Annotated[Containing, Query()] = None,
    id: Annotated[str | None, Query(max_length=512, description="only the row that has this id")] = None,
    offset: Annotated[int, Query(ge=0, lt=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
) -> RowsAnswer:
    """A page of rows, in the order of the pool."""
    return pool.page(explorer, where=where, text=text, name=id, offset=offset, limit=limit)


@router.get("/rows/{row}")
def row(row: Number, explorer: Served) -> Row:
    """One row."""
    return pool.row(explorer, row)


@router.get("/rows/{row}/original", responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}})
def original(row: Number, explorer: Served) -> Response:
    """One row as it stood in the pool's own file: its columns and values, as JSON keeps them."""
    return Response(pool.original(explorer, row), media_type="application/json")
