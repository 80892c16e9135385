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

KEPT = 16
"""filters of which it is remembered what they leave, a byte a row"""


class Metadata:
    """Columns of a store that hold its rows' metadata."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._left: Recent[NDArray[np.bool_]] = Recent(KEPT * max(1, len(store.manifest["shards"])))

    @cached_property
    def kinds(self) -> dict[str, pa.DataType]:
        """The columns by name, in order, with the type that holds the values of all shards."""
        return metadata_kinds(map(self._store.schema, self._store.manifest["shards"]))

    @property
    def names(self) -> list[str]:
        """Those that a filter may use."""
        return list(self.kinds)

    def conditions(self, where: str | None) -> list[Condition]:
        """What a filter wants of the rows.

        Raises:
            ConfigError: it cannot be read, or no row has such a column.
        """
        wanted = parse_filter(where) if where else []
        missing = [one.name for one in wanted if one.name not in self.names]
        if missing:
            raise ConfigError(
                f"--where {missing[0]}: no row has such a column; the index has {', '.join(self.names) or 'none'}."
            )
        return wanted

    def holding(self, shard: Mapping[str, Any], wanted: Sequence[Condition]) -> NDArray[np.bool_]:
        """Which rows of a shard are like what is wanted; not to be written to."""
        return self._left.get((shard["name"], tuple(wanted)), lambda: self._read(shard, wanted))

    def _read(self, shard: Mapping[str, Any], wanted: Sequence[Condition]) -> NDArray[np.bool_]:
        kept = np.ones(shard["rows"], bool)
        columns = self._store.some(shard, [one.column for one in wanted]) if wanted else None
        for one in wanted:
            kept &= one.holds(columns[one.column]) if columns and one.column in columns.column_names else False
        kept.flags.writeable = False
        return kept
