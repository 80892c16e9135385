"""Filters that chain: each a condition on the rows, as a person types it, with the rows that are left after each.

    text~born in Genoa     the words stand in prompt or completion, in any case
    text~/born in \\w+/    a regular expression of RE2, which takes time in proportion to the text
    score>0.5  percentile>=99  length<200  rank<=50
    region=3  role=user  duplicate=false  mark=keep
    map=-1.5,0.25,3,4      inside a box on the map: left, bottom, right, top
    genre=code             a column of the metadata; meta.length where a name above is taken

Nothing is ever evaluated as code.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from influcoder.attribution.pool_columns import PoolColumns
from influcoder.errors import ConfigError
from influcoder.indexes.filters import COMPARISONS, Condition
from influcoder.maths.arrays import Floats

Mask = NDArray[np.bool_]
LONGEST = 500
"""characters of a filter"""
MOST = 16
"""filters in a chain"""
_FORM = re.compile(r"\s*([^=!<>~\s][^=!<>~]*?)\s*(!=|<=|>=|!~|=|<|>|~)\s*(.*?)\s*\Z", re.DOTALL)
_NUMBERS = ("score", "percentile", "rank", "length", "region")


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition.

    >>> Filter.parse("score >= 0.5")
    Filter(name='score', comparison='>=', value='0.5')
    >>> str(Filter.parse("text ~ a=b"))
    'text~a=b'
    """

    name: str
    comparison: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """Read a condition.

        Raises:
            ConfigError: it is none.
        """
        match = _FORM.match(text) if len(text) <= LONGEST else None
        if match is None or not match[3]:
            raise ConfigError(
                f"the filter {text[:60]!r} cannot be read; expected a name, a comparison and a value, such as "
                "text~Paris, score>0.5, length<200 or genre=code."
            )
        return cls(match[1].strip(), match[2], match[3])

    def __str__(self) -> str:
        return f"{self.name}{self.comparison}{self.value}"


@dataclass
class Rows:
    """The rows that filters choose among.

    Attributes:
        columns: of the pool.
        scores: (n,) on the question that was asked; None where none was.
        ranks: (n,) 1 for the highest score.
        regions: (n,) numbers from 0.
        places: (n, 2) on the map.
        marks: what the user decided about rows, by row number: "keep", "drop" or "later".
    """

    columns: PoolColumns
    scores: Floats | None = None
    ranks: NDArray[np.int64] | None = None
    regions: NDArray[np.int32] | None = None
    places: Floats | None = None
    marks: Mapping[int, str] = field(default_factory=dict)

    def holds(self, condition: Filter) -> Mask:
        """(n,) the rows that a condition holds for.

        Raises:
            ConfigError: there is no such column, or it cannot be compared like that.
        """
        match condition.name:
            case "text":
                return self._says(condition)
            case "duplicate":
                is_twin = self.columns.twins != np.arange(len(self.columns.index))
                return self._choice(condition, {"true": is_twin, "false": ~is_twin})
            case "role":
                roles = self.columns.roles
                return self._choice(condition, {name: roles.of_row == code for code, name in enumerate(roles.names)})
            case "mark":
                return self._choice(condition, self._marked())
            case "map":
                return self._inside(condition)
            case name if name in _NUMBERS:
                return self._number(condition, self._values(condition))
        name = condition.name.removeprefix("meta.")
        return Condition(name, condition.comparison, condition.value).holds(self.columns.metadata(name))

    def chain(self, filters: Sequence[Filter]) -> tuple[Mask, list[int]]:
        """(n,) the rows that all conditions hold for, and how many are left after each.

        Raises:
            ConfigError: one cannot be used, or they are too many.
        """
        if len(filters) > MOST:
            raise ConfigError(f"{len(filters)} filters, expected at most {MOST}. Take some away.")
        mask = np.ones(len(self.columns.index), bool)
        counts = []
        for condition in filters:
            mask &= self.holds(condition)
            counts.append(int(mask.sum()))
        return mask, counts

    def _says(self, condition: Filter) -> Mask:
        value = condition.value
        if condition.comparison not in ("~", "!~"):
            raise ConfigError(f"{condition}: text is searched with ~ or !~, as text~{value}.")
        pattern = len(value) > 2 and value.startswith("/") and value.endswith("/")

        def test(texts: pa.ChunkedArray) -> pa.ChunkedArray:
            if pattern:
                return pc.match_substring_regex(texts, value[1:-1], ignore_case=True)
            return pc.match_substring(texts, value, ignore_case=True)

        try:
            matches = self.columns.matching(test)
        except pa.ArrowInvalid as error:
            raise ConfigError(f"{condition}: not a regular expression that can be used ({error}).") from error
        return matches if condition.comparison == "~" else ~matches

    def _values(self, condition: Filter) -> NDArray[Any]:
        if condition.name == "length":
            return self.columns.lengths
        if condition.name == "region":
            if self.regions is None:
                raise ConfigError(f"{condition}: the regions are not known yet. Ask again in a few seconds.")
            return self.regions + 1
        if self.scores is None or self.ranks is None:
            raise ConfigError(f"{condition}: rows have a {condition.name} once a question is asked.")
        if condition.name == "percentile":
            return 100 * (len(self.ranks) - self.ranks) / max(len(self.ranks) - 1, 1)
        return self.scores if condition.name == "score" else self.ranks

    def _marked(self) -> dict[str, Mask]:
        rows = {name: np.zeros(len(self.columns.index), bool) for name in ("keep", "drop", "later")}
        for row, mark in self.marks.items():
            rows[mark][row] = True
        return rows | {"none": ~(rows["keep"] | rows["drop"] | rows["later"])}

    def _inside(self, condition: Filter) -> Mask:
        if self.places is None:
            raise ConfigError(f"{condition}: the map is not drawn yet. Ask again in a few seconds.")
        try:
            left, bottom, right, top = (float(number) for number in condition.value.split(","))
        except ValueError as error:
            raise ConfigError(f"{condition}: expected map=left,bottom,right,top, four numbers.") from error
        x, y = self.places[:, 0], self.places[:, 1]
        inside = (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
        return inside if condition.comparison == "=" else ~inside

    @staticmethod
    def _number(condition: Filter, values: NDArray[Any]) -> Mask:
        if condition.comparison not in COMPARISONS:
            raise ConfigError(f"{condition}: {condition.name} is a number; use = != < <= > or >=.")
        try:
            number = float(condition.value)
        except ValueError as error:
            raise ConfigError(f"{condition}: expected a number, got {condition.value!r}.") from error
        return np.asarray(COMPARISONS[condition.comparison](values, number))

    @staticmethod
    def _choice(condition: Filter, choices: Mapping[str, Mask]) -> Mask:
        if condition.comparison not in ("=", "!=") or condition.value not in choices:
            name = condition.name
            raise ConfigError(f"{condition}: expected {name}= or {name}!= and one of {', '.join(choices)}.")
        rows = choices[condition.value]
        return rows if condition.comparison == "=" else ~rows
