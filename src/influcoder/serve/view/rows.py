"""Which rows are shown: the ends of the ranking, or a page of all that pass the filters."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.row_filter import Filter, Rows
from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats
from influcoder.maths.order import first
from influcoder.serve.view.address import Address
from influcoder.serve.view.answers import Answer
from influcoder.serve.view.pool import PoolPicture

PAGE = 25


@dataclass(frozen=True, slots=True)
class Pill:
    """A filter of the chain.

    Attributes:
        text: as it stands in the URL.
        shown: as it is read: a region by its name.
        left: rows that are left after it; None where it cannot be used.
        trouble: why not.
    """

    text: str
    shown: str
    left: int | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Left:
    """What filters leave.

    Attributes:
        mask: (n,) of every row; None where no filter holds.
        count: rows that are left.
    """

    pills: list[Pill]
    mask: NDArray[np.bool_] | None
    count: int


def filtered(address: Address, answer: Answer | None, pool: PoolPicture, marks: Mapping[int, str]) -> Left:
    """The rows that the filters of a URL leave; a filter that cannot be used leaves all, and says why."""
    if not address.where:
        return Left([], None, len(pool.index))
    rows = Rows(
        pool.columns,
        None if answer is None else answer.scores,
        None if answer is None else answer.ranks,
        None if pool.regions is None else pool.regions.of_row,
        pool.places,
        marks,
    )
    asked = None if answer is None else (answer.prompt, answer.completion)
    left, pills = np.ones(len(pool.index), bool), []
    for text in address.where:
        try:
            one = Filter.parse(text)
            left &= rows.holds(one) if one.name == "mark" else pool.masks.get((text, asked), partial(rows.holds, one))
            pills.append(Pill(text, _read(one, pool), int(left.sum())))
        except ConfigError as error:
            pills.append(Pill(text, text, None, str(error)))
    return Left(pills, left, int(left.sum()))


def _read(one: Filter, pool: PoolPicture) -> str:
    if one.name == "region" and pool.regions is not None and one.value.isdecimal():
        number = int(one.value) - 1
        if 0 <= number < len(pool.regions.names):
            return f"region {one.comparison} {pool.regions.names[number]}"
    if one.name == "map":
        return "inside the box on the map" if one.comparison == "=" else "outside the box on the map"
    return f"{one.name} {one.comparison} {one.value}"


def ends(answer: Answer, left: Left, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The `count` rows of highest score and of lowest, the strongest of each first."""
    if left.mask is None:
        return first(answer.scores, count), first(-answer.scores, count)
    rows = np.flatnonzero(left.mask)
    scores = answer.scores[rows]
    return rows[first(scores, count)], rows[first(-scores, count)]


def page_of(address: Address, answer: Answer | None, left: Left, pool: PoolPicture) -> tuple[NDArray[np.int64], int]:
    """The rows of a page of the table, and how many pages there are."""
    order = _order(address.sort, answer, pool)
    if left.mask is not None:
        order = order[left.mask[order]]
    pages = max(1, -(-len(order) // PAGE))
    start = (min(address.page, pages) - 1) * PAGE
    return order[start : start + PAGE], pages


def _order(sort: str, answer: Answer | None, pool: PoolPicture) -> NDArray[np.int64]:
    if sort == "-length":
        return np.argsort(-pool.columns.lengths, kind="stable")
    if answer is None or sort == "row":
        return np.arange(len(pool.index))
    return answer.order if sort == "-score" else answer.order[::-1]


def scores_of(answer: Answer | None, rows: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Scores and ranks of some rows; zeros where nothing was asked."""
    if answer is None:
        return np.zeros(len(rows), np.float32), np.zeros(len(rows), np.int64)
    return answer.scores[rows], answer.ranks[rows]
