"""How many rows some files hold, and a few of them drawn at random, without keeping the rest."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq

from influcoder.data.examples import Example
from influcoder.data.messages import RowError
from influcoder.data.parts import Columns
from influcoder.data.reading import Prepare, examples_of
from influcoder.data.row_files import EmptyFile, file_rows, find_files, size_of
from influcoder.data.sampling import reservoir
from influcoder.errors import DataError

GROUPS = 4
"""row groups of a Parquet file that are read"""


@dataclass(frozen=True, slots=True)
class Preview:
    """The size of some files and a sample of their rows.

    Attributes:
        rows: how many examples there are: from a Parquet file's metadata, or counted in JSON lines.
        sample: some of them, drawn without replacement; rows that cannot be used are left out.
    """

    rows: int
    sample: list[Example]


def preview(
    files: Sequence[str],
    size: int,
    *,
    columns: Columns | None = None,
    seed: int = 0,
    prepare: Prepare | None = None,
) -> Preview:
    """Count the rows of files, folders or globs and draw `size` of them.

    Args:
        columns, prepare: as of `influcoder.data.reading.stream_examples`.

    Raises:
        DataError: no such file, one that cannot be read, or no row that can be used.
    """
    rng = np.random.default_rng(seed)
    counts, drawn, empty = [], [], None
    for path in [path for pattern in files for path in find_files(pattern)]:
        try:
            if path.suffix == ".parquet":
                rows, count = _parquet(path, size, rng)
            else:
                rows, count = reservoir(file_rows(path), size, rng)
        except EmptyFile as error:
            empty = error
            continue
        counts.append(count)
        drawn.append([rows[place] for place in rng.permutation(len(rows))])
    if not counts:
        raise empty or DataError("no files were given. Expected at least one.")
    # How many of a sample of all rows come from each file.
    shares = rng.multivariate_hypergeometric(counts, min(size, sum(counts)), method="marginals")
    chosen = [row for rows, share in zip(drawn, shares, strict=True) for row in rows[:share]]
    sample: list[Example] = []
    used, problem = 0, ""
    for number in rng.permutation(len(chosen)):
        where, row = chosen[number]
        try:
            examples = examples_of(row, columns, Counter(), prepare)
        except RowError as error:
            problem = f"{where}: {error.detail}"
            continue
        used += 1
        for side, example in enumerate(examples):
            sample.append(replace(example, id=f"row-{number}-{side}" if side else f"row-{number}"))
    if not sample:
        raise DataError(f"none of {len(chosen)} rows drawn at random can be used. {problem}. Correct the rows.")
    return Preview(sum(counts) * len(sample) // used, sample)


def _parquet(path: Any, size: int, rng: np.random.Generator) -> tuple[list[tuple[str, Any]], int]:
    """(some rows of some row groups with their places, the number of rows)."""
    if size_of(path) == 0:
        raise EmptyFile(f"{path}: no rows. Expected at least one example.")
    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as file:
            groups = np.flatnonzero([file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)])
            chosen = np.sort(rng.permutation(groups)[:GROUPS])
            kept = [(f"{path}: row group {group}", row) for group in chosen for row in _some(file, group, size, rng)]
            count = file.metadata.num_rows
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from error
    if not kept:
        raise EmptyFile(f"{path}: no rows. Expected at least one example.")
    return kept, count


def _some(file: Any, group: int, size: int, rng: np.random.Generator) -> Iterator[Any]:
    rows = file.metadata.row_group(int(group)).num_rows
    places = np.sort(rng.permutation(rows)[: -(-size // GROUPS)])
    yield from file.read_row_group(int(group)).take(pyarrow.array(places)).to_pylist()
