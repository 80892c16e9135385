"""Pages of the pool's rows, and a row as its file has it."""

import numpy as np
import orjson

from influcoder.indexes.original_rows import original_row
from influcoder.indexes.rows import matching, row_of_id
from influcoder.serve import answers
from influcoder.serve.explorer import Explorer
from influcoder.serve.wire import Row, RowsAnswer
from influcoder.verbs.opening import open_whole_index


def page(
    explorer: Explorer, *, where: str | None, text: str | None, name: str | None, offset: int, limit: int
) -> RowsAnswer:
    """Rows in the order of the pool: all, or those that meet `where` and hold `text`, or the one with an id."""
    explorer.refuse_unready()
    index = explorer.index
    if name is not None:
        row = row_of_id(index, name)
        numbers = np.array([] if row is None else [row], np.int64)
    else:
        numbers = matching(index, where, text)
    rows = numbers[offset : offset + limit].tolist()
    shown = [answers.row(*pair) for pair in zip(rows, index.examples_at(rows), strict=True)]
    return RowsAnswer(count=len(index), matching=len(numbers), offset=offset, rows=shown)


def row(explorer: Explorer, row: int) -> Row:
    """One row.

    Raises:
        Problem: it is not there.
    """
    explorer.refuse_unready()
    return answers.row(row, explorer.index.example(*explorer.existing([row])))


def original(explorer: Explorer, row: int) -> bytes:
    """One row as the pool's own file has it, as JSON.

    Raises:
        Problem: it is not there.
        ConfigError: the index is in LanceDB.
        StoreMismatch: it was indexed by a version that did not keep its columns.
    """
    explorer.refuse_unready()
    return orjson.dumps(original_row(open_whole_index(explorer.index), *explorer.existing([row])))
