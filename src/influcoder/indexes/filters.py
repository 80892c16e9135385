"""Conditions on an example's metadata, as `genre=code,tokens<200`: which rows of an index are scored at all.

    filter     condition ("," condition)*          all of them must hold
    condition  name ("=" | "!=" | "<" | "<=" | ">" | ">=") value
    value      a number, true, false, or text; in double quotes where it holds one of , = < > !

A row without the column meets no condition on it. Nothing is ever evaluated as code.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.errors import ConfigError

PREFIX = "meta."
"""of the names of a shard's metadata columns"""
LONGEST = 200
"""characters of a text that can be filtered by"""
_CONDITION = re.compile(r'\s*([^=!<>,"]+?)\s*(<=|>=|!=|=|<|>)\s*("[^"]*"|[^,"=<>!]*?)\s*(,|$)')
COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one column."""

    name: str
    comparison: str
    value: str

    @property
    def column(self) -> str:
        return PREFIX + self.name

    def holds(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """(n,) which rows of a column meet it.

        Raises:
            ConfigError: the column cannot be compared like that.
        """
        compare, valid = COMPARISONS[self.comparison], column.is_valid().to_numpy()
        if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
            if self.comparison not in ("=", "!="):
                raise ConfigError(f"--where {self.name}{self.comparison}: {self.name} holds text; use = or !=.")
            equal = pc.fill_null(pc.equal(column.cast(pa.string()), self.value), False).to_numpy()
            return np.asarray(valid & compare(equal, True))
        if pa.types.is_boolean(column.type):
            if self.value not in ("true", "false") or self.comparison not in ("=", "!="):
                raise ConfigError(f"--where {self.name}: it is true or false, as in {self.name}=true.")
            return np.asarray(valid & compare(pc.fill_null(column, False).to_numpy(), self.value == "true"))
        try:
            number = float(self.value)
        except ValueError as error:
            raise ConfigError(
                f"--where {self.name}{self.comparison}{self.value}: {self.name} holds numbers, expected one."
            ) from error
        return np.asarray(valid & compare(pc.fill_null(column, 0).to_numpy(), number))


def parse_filter(text: str) -> list[Condition]:
    """The conditions that a filter names.

    Raises:
        ConfigError: it is not of that form.

    >>> [(c.name, c.comparison, c.value) for c in parse_filter('genre=code, tokens<200,title="a,b"')]
    [('genre', '=', 'code'), ('tokens', '<', '200'), ('title', '=', 'a,b')]
    """
    conditions, start = [], 0
    while True:
        match = _CONDITION.match(text, start)
        if match is None:
            raise ConfigError(
                f"--where {text!r} cannot be read from {text[start:]!r} on; expected conditions such as "
                "genre=code,tokens<200; a value with , = < > or ! in double quotes."
            )
        name, comparison, value, end = match.groups()
        conditions.append(Condition(name, comparison, value.strip('"') if value.startswith('"') else value))
        start = match.end()
        if not end:
            return conditions


def metadata_columns(examples: Sequence[Example]) -> dict[str, pa.Array]:
    """A column for each key of the examples' metadata that holds text, numbers, or true and false.

    A key that holds several kinds becomes text; text of more than `LONGEST` characters is left out.
    """
    names = {name for example in examples for name, value in example.metadata.items() if _filterable(value)}
    return {PREFIX + name: _column([example.metadata.get(name) for example in examples]) for name in sorted(names)}


def metadata_kinds(schemas: Iterable[pa.Schema]) -> dict[str, pa.DataType]:
    """The metadata columns of an index by name, in order, with the type that holds the values of all its shards.

    A key that is text in one shard and a number in another is text.
    """
    kinds: dict[str, pa.DataType] = {}
    for field in (field for schema in schemas for field in schema if field.name.startswith(PREFIX)):
        name = field.name.removeprefix(PREFIX)
        kinds[name] = field.type if kinds.get(name, field.type) == field.type else pa.string()
    return dict(sorted(kinds.items()))


def _filterable(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST
    return isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63)


def _column(values: Sequence[Any]) -> pa.Array:
    values = [value if _filterable(value) else None for value in values]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if bool not in kinds and str not in kinds:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).encode("utf-8", "backslashreplace").decode()
