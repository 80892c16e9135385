"""Read examples from JSONL (.gz, .zst), Parquet, folders, globs, `datasets` objects and URLs (`hf://`, `s3://` ...).

Rows are read as they are asked for, and of those that went by only 8 bytes an id are kept: see `stream_examples`.
Every row that cannot be used is named by file and line with a reason. By default the first one stops
the reading; with `on_error="skip"` they are counted, written to a rejects file, and reading stops only
when their share passes `max_reject_rate`.
"""

import contextlib
import glob
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from influcoder.data.columns import to_json
from influcoder.data.examples import Columns, Example, RowError, checked, content_id, example_from_row
from influcoder.data.seen_ids import SeenIds
from influcoder.data.urls import RemoteFile, find_remote
from influcoder.errors import ConfigError, DataError
from influcoder.store.files import atomic_file

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".parquet")
OnError = Literal["fail", "skip"]
Source = str | Path | Iterable[Any]


def read_examples(
    source: Source | list[str] | list[Path],
    *,
    columns: Columns | None = None,
    on_error: OnError = "fail",
    rejects: Path | None = None,
    max_reject_rate: float = 0.01,
) -> list[Example]:
    """All examples of a file, folder, glob, URL, list of those, `datasets.Dataset`, or iterable of rows.

    Args and errors are those of `stream_examples`.

    >>> [example.id for example in read_examples([{"id": 7, "text": "hello"}])]
    ['7']
    """
    return list(
        stream_examples(source, columns=columns, on_error=on_error, rejects=rejects, max_reject_rate=max_reject_rate)
    )


def stream_examples(
    source: Source | list[str] | list[Path],
    *,
    columns: Columns | None = None,
    on_error: OnError = "fail",
    rejects: Path | None = None,
    max_reject_rate: float = 0.01,
) -> Iterator[Example]:
    """The examples of `read_examples` one after the other, in memory that does not grow with their texts.

    Args:
        columns: which columns to read; detected by name when omitted (see `influcoder.data.examples`).
        on_error: "fail" stops at the first unusable row, "skip" goes on.
        rejects: JSONL file for the skipped rows: location, reason, detail, row.
        max_reject_rate: with "skip", the largest tolerated share of unusable rows (0 to 1).

    Raises:
        DataError: no such file, nothing in it, an unusable row, or, at the end, too many of them.
    """
    if on_error not in ("fail", "skip"):
        raise ConfigError(f"on_error is {on_error!r}, expected 'fail' or 'skip'.")
    taken, copies, refused, first, total = SeenIds(), Counter[str](), Counter[str](), "", 0
    with contextlib.ExitStack() as stack:
        sink = None
        for where, row in _rows(source):
            total += 1
            try:
                if isinstance(row, RowError):
                    raise row
                example = checked(row) if isinstance(row, Example) else example_from_row(row, columns)
                example = _with_id(example, taken, copies)
            except RowError as error:
                if on_error == "fail":
                    raise DataError(
                        f"{where}: {error.detail}. Mend the row, or give --on-error skip to leave such rows out."
                    ) from error
                refused[error.code] += 1
                first = first or f"{where}: {error.detail}"
                if rejects is not None:
                    sink = sink or stack.enter_context(atomic_file(rejects))
                    entry = {"location": where, "reason": error.code, "detail": error.detail, "row": _excerpt(row)}
                    sink.write(to_json(entry) + b"\n")
            else:
                yield example
    if total == 0:
        raise DataError(f"{_named(source)}: no rows. Expected at least one example.")
    skipped = refused.total()
    if skipped == total or skipped > max_reject_rate * total:
        counts = ", ".join(f"{code}: {n}" for code, n in refused.most_common())
        raise DataError(
            f"{_named(source)}: {skipped} of {total} rows cannot be used ({counts}), more than "
            f"{max_reject_rate:.1%}. First: {first}. Mend them or raise --max-reject-rate."
        )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one file as they are written, for data of a known layout.

    Raises:
        DataError: a row is no object; the message names its line.
    """
    rows = []
    for where, row in file_rows(path):
        if not isinstance(row, dict):
            raise DataError(f"{where}: {row.detail if isinstance(row, RowError) else 'not an object'}.")
        rows.append(row)
    return rows


def _with_id(example: Example, taken: SeenIds, copies: Counter[str]) -> Example:
    """The example with an id that is new; `copies` counts the texts without one that were met again."""
    name = example.id or content_id(example)
    if taken.add(name):
        return example if example.id else replace(example, id=name)
    if not example.id:
        copies[name] += 1
        name = f"{name}-{copies[name] + 1}"
        if taken.add(name):
            return replace(example, id=name)
    raise RowError("duplicate_id", f"id {name!r} occurs twice; ids must be unique")


def find_files(pattern: str | Path) -> list[Path] | list[RemoteFile]:
    """The readable files a path, folder, glob or URL names, sorted."""
    text = str(pattern)
    if "://" in text:
        return find_remote(text, SUFFIXES)
    try:
        path = Path(text).expanduser()
        if path.is_file():
            return [path]
        if path.is_dir():
            found = sorted(one for one in path.rglob("*") if one.is_file() and one.name.endswith(SUFFIXES))
            wanted = f"no {', '.join(SUFFIXES)} file in this folder"
        else:
            found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
            wanted = "no such file, and no file matches it as a glob"
    except (OSError, RuntimeError, ValueError) as error:  # too long, not to be entered, ~ of an unknown user
        raise DataError(f"{text}: no such file: {error}. Expected a file, folder or glob.") from error
    if not found:
        raise DataError(f"{path}: {wanted}.")
    return found


def _rows(source: Source | list[str] | list[Path]) -> Iterator[tuple[str, Any]]:
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, Mapping):
        raise DataError(
            f"{_named(source)} holds {sorted(map(str, source))}, expected rows. Choose a split, as in "
            "`data['train']`; put a single row in a list."
        )
    for number, item in enumerate(source, 1):
        if isinstance(item, str | Path | RemoteFile):
            for path in [item] if isinstance(item, RemoteFile) else find_files(item):
                yield from file_rows(path)
        else:
            yield f"row {number}", item


def file_rows(path: Path | RemoteFile) -> Iterator[tuple[str, Any]]:
    """(where it stands, row) of every row of a file as it is written; a `RowError` for one that cannot be read.

    Raises:
        DataError: an unknown kind of file, a damaged one, or one without rows.
    """
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: unknown kind of file; expected one of {', '.join(SUFFIXES)}.")
    empty = True
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    for number, row in rows:
        empty = False
        yield f"{path}:{number}", row
    if empty:
        raise DataError(f"{path}: no rows. Expected at least one example.")


def _json_rows(path: Path | RemoteFile) -> Iterator[tuple[int, Any]]:
    number = 0
    try:
        with _opened(path) as lines:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield number, _json_row(line)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read past line {number}: {error}. The file is damaged or cut off; get it again."
        ) from error


def _json_row(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        tail = line[-60:].decode("utf-8", "replace").strip()
        return RowError("bad_json", f"not a JSON object: {error} (the line ends {tail!r})")


@contextlib.contextmanager
def _opened(path: Path | RemoteFile) -> Iterator[IO[bytes]]:
    """The lines of a file, unpacked."""
    with path.open("rb") as stream:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield io.BufferedReader(unpacked, 1 << 20)
        elif path.suffix == ".zst":
            import pyarrow

            # io.BufferedReader reads lines; pyarrow's stream alone does not.
            yield io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(stream), "zstd"), 1 << 20)
        else:
            yield stream


def _parquet_rows(path: Path | RemoteFile) -> Iterator[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with (
            path.open("rb") as stream,
            # With pre_buffer, the default, every byte that was read stays in memory until the file is closed.
            pyarrow.parquet.ParquetFile(stream, pre_buffer=False, page_checksum_verification=True) as file,
        ):
            repeated = [name for name, count in Counter(file.schema_arrow.names).items() if count > 1]
            if repeated:
                raise DataError(f"{path}: columns {repeated} occur more than once. Rename or drop all but one of each.")
            for batch in file.iter_batches(batch_size=1024):
                for row in _batch_rows(batch):
                    number += 1
                    yield number, row
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file past row {number}: {error}") from error


def _batch_rows(batch: Any) -> list[Any]:
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError) as error:
        if len(batch) == 1:
            return [RowError("bad_value", f"a value that Python cannot hold: {error}")]
        return [row for place in range(len(batch)) for row in _batch_rows(batch.slice(place, 1))]


def _named(source: object) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, list) and source and isinstance(source[0], str | Path | RemoteFile):
        return ", ".join(map(str, source[:3])) + (" ..." if len(source) > 3 else "")
    return f"the {type(source).__name__} given"


def _excerpt(row: object) -> str:
    return str(row)[:500]
