"""Read examples from JSONL (.gz, .zst), Parquet, folders, globs, URLs (`hf://` ...), hub ids and `datasets` objects.

Rows are read one at a time, and only 8 bytes per id are kept of those already read: see `stream_examples`. Every row
that cannot be used is named by file and line with a reason. By default the first such row stops the reading; with
`on_error="skip"` they are counted, written to a rejects file, and reading fails only if their share is above
`max_reject_rate`.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from influcoder.data.columns import to_json
from influcoder.data.examples import Example, checked, content_id, examples_from_row
from influcoder.data.hub_rows import HubRows
from influcoder.data.messages import RowError
from influcoder.data.parts import Columns
from influcoder.data.row_files import EmptyFile, file_rows, find_files
from influcoder.data.seen_ids import SeenIds
from influcoder.data.token_ids import TokenIds
from influcoder.data.urls import RemoteFile
from influcoder.errors import ConfigError, DataError, some_of
from influcoder.store.files import atomic_file

logger = logging.getLogger("influcoder")

OnError = Literal["fail", "skip"]
Source = str | Path | Iterable[Any]
Prepare = Callable[[Example], Example]


def read_examples(
    source: Source | list[str] | list[Path],
    *,
    columns: Columns | None = None,
    on_error: OnError = "fail",
    rejects: Path | None = None,
    max_reject_rate: float = 0.01,
    prepare: Prepare | None = None,
) -> list[Example]:
    """All examples of a file, folder, glob, URL, list of those, `datasets.Dataset`, or iterable of rows.

    Args and errors are those of `stream_examples`.

    >>> [example.id for example in read_examples([{"id": 7, "text": "hello"}])]
    ['7']
    """
    return list(
        stream_examples(
            source,
            columns=columns,
            on_error=on_error,
            rejects=rejects,
            max_reject_rate=max_reject_rate,
            prepare=prepare,
        )
    )


def stream_examples(
    source: Source | list[str] | list[Path],
    *,
    columns: Columns | None = None,
    on_error: OnError = "fail",
    rejects: Path | None = None,
    max_reject_rate: float = 0.01,
    prepare: Prepare | None = None,
) -> Iterator[Example]:
    """The examples of `read_examples` one at a time, in memory that does not grow with their texts.

    Args:
        columns: which columns to read; detected by name when omitted (see `influcoder.data.parts`).
        on_error: "fail" stops at the first unusable row, "skip" goes on.
        rejects: JSONL file for the skipped rows: location, reason, detail, row.
        max_reject_rate: with "skip", the largest tolerated share of unusable rows (0 to 1).
        prepare: the `Decoder.prepare` of the decoder that is to read the examples, so that a row that it cannot read
            is refused here, by file and line. Rows of token ids need it.

    Raises:
        DataError: no such file, nothing in it, an unusable row, or, at the end, too many of them.
    """
    if on_error not in ("fail", "skip"):
        raise ConfigError(f"on_error is {on_error!r}, expected 'fail' or 'skip'.")
    ids, copies, refused, notes = SeenIds(), Counter[str](), Counter[str](), Counter[str]()
    empty: list[str] = []
    first, total = "", 0
    with contextlib.ExitStack() as stack:
        sink = None
        for where, row in _rows(source, empty):
            total += 1
            try:
                for example in examples_of(row, columns, notes, prepare):
                    yield _with_id(example, ids, copies)
            except RowError as error:
                if on_error == "fail":
                    raise DataError(
                        f"{where}: {error.detail}. Correct the row, or give --on-error skip to leave such rows out."
                    ) from error
                refused[error.code] += 1
                first = first or f"{where}: {error.detail}"
                if rejects is not None:
                    sink = sink or stack.enter_context(atomic_file(rejects))
                    entry = {"location": where, "reason": error.code, "detail": error.detail, "row": str(row)[:500]}
                    sink.write(to_json(entry) + b"\n")
    if total and empty:
        logger.warning("%d files without rows are passed over: %s.", len(empty), some_of(empty))
    for note, count in notes.items():
        logger.warning("%s: %d of %d rows: %s.", _name_of(source), count, total, note)
    if total == 0:
        raise DataError(f"{_name_of(source)}: no rows. Expected at least one example.")
    skipped = refused.total()
    if skipped == total or skipped > max_reject_rate * total:
        counts = ", ".join(f"{code}: {n}" for code, n in refused.most_common())
        raise DataError(
            f"{_name_of(source)}: {skipped} of {total} rows cannot be used ({counts}), more than "
            f"{max_reject_rate:.1%}. First: {first}. Correct them or raise --max-reject-rate."
        )


def examples_of(row: Any, columns: Columns | None, notes: Counter[str], prepare: Prepare | None) -> list[Example]:
    """The examples of a row, as the decoder reads them if there is one.

    Raises:
        RowError: it cannot be read, has no known layout, or the decoder cannot read it.
    """
    if isinstance(row, RowError):
        raise row
    if isinstance(row, Example):  # made by its caller, or read and prepared before
        return [checked(row)]
    examples = examples_from_row(row, columns, notes)
    if prepare is not None:
        return [prepare(example) for example in examples]
    if any(isinstance(example.given, TokenIds) and not example.completion for example in examples):
        raise RowError("no_text", "it holds token ids and no text; a decoder is needed to read them: --decoder")
    return examples


def _with_id(example: Example, ids: SeenIds, copies: Counter[str]) -> Example:
    """The example with an id that is new; `copies` counts the repetitions of texts without an id."""
    name = example.id or content_id(example)
    if ids.add(name):
        return example if example.id else replace(example, id=name)
    if not example.id:
        copies[name] += 1
        name = f"{name}-{copies[name] + 1}"
        if ids.add(name):
            return replace(example, id=name)
    raise RowError("duplicate_id", f"id {name!r} occurs twice; ids must be unique")


def _rows(source: Source | list[str] | list[Path], empty: list[str]) -> Iterator[tuple[str, Any]]:
    """(place, row) of every row; the names of files without rows go to `empty`."""
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, Mapping):
        raise DataError(
            f"{_name_of(source)} holds {sorted(map(str, source))}, expected rows. Choose a split, as in "
            "`data['train']`; put a single row in a list."
        )
    for number, item in enumerate(source, 1):
        if isinstance(item, str | Path | RemoteFile | HubRows):
            for path in find_files(item) if isinstance(item, str | Path) else [item]:
                try:
                    yield from file_rows(path)
                except EmptyFile:
                    empty.append(str(path))
        else:
            yield f"row {number}", item


def _name_of(source: object) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, list) and source and isinstance(source[0], str | Path | RemoteFile | HubRows):
        return ", ".join(map(str, source[:3])) + (" ..." if len(source) > 3 else "")
    return f"the {type(source).__name__} given"
