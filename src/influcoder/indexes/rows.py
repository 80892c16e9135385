"""Rows of an index by what they are like, without a query; wherever they lie."""

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from influcoder.indexes.index import Index
from influcoder.indexes.lance import LanceIndex

Rows = NDArray[np.int64]


def matching(index: Index | LanceIndex, where: str | None = None, text: str | None = None) -> Rows:
    """The rows whose metadata is like `where` and whose prompt or completion holds `text`, in order.

    Args:
        where: as `genre=code,tokens<200`.
        text: as it stands, in upper or lower case.

    Raises:
        ConfigError: `where` cannot be read.
    """
    if not where and not text:
        return np.arange(len(index))
    return _in_lance(index, where, text) if isinstance(index, LanceIndex) else _in_shards(index, where, text)


def row_of_id(index: Index | LanceIndex, name: str) -> int | None:
    """The row that has an id, if one has."""
    if isinstance(index, LanceIndex):
        rows = index.select(["row"], f"id = {_quoted(name)}")["row"].to_pylist()
        return int(rows[0]) if rows else None
    for shard, start in zip(index.shards, index.starts, strict=False):
        place = pc.index(index.store.some(shard, ["id"])["id"], name).as_py()
        if place >= 0:
            return int(start) + int(place)
    return None


def _in_shards(index: Index, where: str | None, text: str | None) -> Rows:
    conditions, rows = index.metadata.conditions(where), [np.empty(0, np.int64)]
    for shard, start in zip(index.shards, index.starts, strict=False):
        matches = index.metadata.holding(shard, conditions)
        if text:
            table = index.store.some(shard, ["prompt", "completion"])
            in_columns = [pc.match_substring(column, text, ignore_case=True) for column in table.itercolumns()]
            matches = matches & np.logical_or.reduce([column.to_numpy() for column in in_columns])
        rows.append(start + np.flatnonzero(matches))
    return np.concatenate(rows)


def _in_lance(index: LanceIndex, where: str | None, text: str | None) -> Rows:
    conditions = [condition for condition in [index.condition(where)] if condition]
    if text:
        words = _quoted(text.lower())
        conditions.append(f"(strpos(lower(prompt), {words}) > 0 OR strpos(lower(completion), {words}) > 0)")
    return np.sort(index.select(["row"], " AND ".join(conditions))["row"].to_numpy())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
