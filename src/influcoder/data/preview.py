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
from influcoder.errors import DataError

GROUPS = 4
"""row groups of a Parquet file that are looked into"""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a glance at some files shows.

    Attributes:
        rows: how many examples there are: of Parquet from its metadata, of JSON lines counted.
        sample: some of them, drawn without replacement; rows that cannot be used are left out.
    """

    rows: int
    sample: list[Example]


def glance(
    files: Sequence[str],
    size: int,
    *,
    columns: Columns | None = None,
    seed: int = 0,
    prepare: Prepare | None = None,
) -> Glance:
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
            count, some = _parquet(path, size, rng) if path.suffix == ".parquet" else _lines(path, size, rng)
        except EmptyFile as error:
            empty = error
            continue
        counts.append(count)
        drawn.append([some[place] for place in rng.permutation(len(some))])
    if not counts:
        raise empty or DataError("no files were given. Expected at least one.")
    # How many of a sample of all rows come from each file.
    shares = rng.multivariate_hypergeometric(counts, min(size, sum(counts)), method="marginals")
    chosen = [found for some, share in zip(drawn, shares, strict=True) for found in some[:share]]
    sample: list[Example] = []
    used, trouble = 0, ""
    for number in rng.permutation(len(chosen)):
        where, row = chosen[number]
        try:
            found = examples_of(row, columns, Counter(), prepare)
            sample += [replace(one, id=f"row-{number}" + f"-{side}" * (side > 0)) for side, one in enumerate(found)]
            used += 1
        except RowError as error:
            trouble = f"{where}: {error.detail}"
    if not sample:
        raise DataError(f"none of {len(chosen)} rows drawn at random can be used. {trouble}. Mend the rows.")
    return Glance(sum(counts) * len(sample) // used, sample)


Found = list[tuple[str, Any]]


def _lines(path: Any, size: int, rng: np.random.Generator) -> tuple[int, Found]:
    """Algorithm R (Vitter 1985): every row has the same chance to be kept."""
    kept: Found = []
    count = 0
    for count, found in enumerate(file_rows(path), 1):
        if len(kept) < size:
            kept.append(found)
        elif (place := int(rng.integers(count))) < size:
            kept[place] = found
    return count, kept


def _parquet(path: Any, size: int, rng: np.random.Generator) -> tuple[int, Found]:
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
    return count, kept


def _some(file: Any, group: int, size: int, rng: np.random.Generator) -> Iterator[Any]:
    rows = file.metadata.row_group(int(group)).num_rows
    places = np.sort(rng.permutation(rows)[: -(-size // GROUPS)])
    yield from file.read_row_group(int(group)).take(pyarrow.array(places)).to_pylist()
