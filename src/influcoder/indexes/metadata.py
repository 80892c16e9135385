"""The metadata of an index's rows, as a filter asks for them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.indexes.filters import Condition, metadata_kinds, parse_filter
from influcoder.recent import Recent
from influcoder.store.store import Store

REMEMBERED = 16
"""filters whose rows are remembered, a byte a row"""


class Metadata:
    """Columns of a store that hold its rows' metadata."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._left: Recent[NDArray[np.bool_]] = Recent(REMEMBERED * max(1, len(store.manifest["shards"])))

    @cached_property
    def kinds(self) -> dict[str, pa.DataType]:
        """The columns by name, in order, with the type that holds the values of all shards."""
        return metadata_kinds(map(self._store.schema, self._store.manifest["shards"]))

    @property
    def names(self) -> list[str]:
        """The columns that a filter may use."""
        return list(self.kinds)

    def conditions(self, where: str | None) -> list[Condition]:
        """The conditions of a filter.

        Raises:
            ConfigError: it cannot be read, or no row has such a column.
        """
        conditions = parse_filter(where) if where else []
        missing = [condition.name for condition in conditions if condition.name not in self.names]
        if missing:
            raise ConfigError(
                f"--where {missing[0]}: no row has such a column; the index has {', '.join(self.names) or 'none'}."
            )
        return conditions

    def holding(self, shard: Mapping[str, Any], conditions: Sequence[Condition]) -> NDArray[np.bool_]:
        """Which rows of a shard meet all conditions; read-only."""
        return self._left.get((shard["name"], tuple(conditions)), lambda: self._read(shard, conditions))

    def _read(self, shard: Mapping[str, Any], conditions: Sequence[Condition]) -> NDArray[np.bool_]:
        matches = np.ones(shard["rows"], bool)
        columns = self._store.some(shard, [condition.column for condition in conditions]) if conditions else None
        for condition in conditions:
            name = condition.column
            matches &= condition.holds(columns[name]) if columns and name in columns.column_names else False
        matches.flags.writeable = False
        return matches
