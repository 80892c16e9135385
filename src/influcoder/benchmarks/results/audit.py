"""The leak audit: what is trained on, chosen by and tested on is held apart before any number is printed.

Every two sides of a benchmark are cross-checked by id and by normalised text (case and spacing do not matter), and
by whatever else must not be shared, such as the request that several answers belong to. An overlap is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from influcoder.data.examples import Example
from influcoder.errors import DataError
from influcoder.evaluation.evaluate import count_overlap


def audit(
    sides: Mapping[str, Sequence[Example]],
    *,
    apart: Callable[[Example], str] | None = None,
    together: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """What was cross-checked, for `metrics.json`: examples a side, pairs of sides, and an overlap of 0.

    Args:
        sides: examples by the name of their side.
        apart: what two sides must not share either, besides ids and texts: the request, the subject.
        together: pairs of sides that may share what `apart` tells: a query asks for what the pool states.

    Raises:
        DataError: two sides share an id, a text, or what `apart` tells; the message names them and an example.

    >>> audit({"pool": [Example("a", "2 + 2 =", "4")], "queries": [Example("b", "2 + 3 =", "5")]})["overlap"]
    0
    """
    checked = []
    for one, other in combinations(sides, 2):
        try:
            count_overlap(sides[one], sides[other])
        except DataError as error:
            raise DataError(f"leak between {one} and {other}: {error}") from error
        if apart is not None and not {(one, other), (other, one)} & set(together):
            _refuse_shared(one, other, sides, apart)
        checked.append(f"{one} / {other}")
    return {"examples": {name: len(one) for name, one in sides.items()}, "checked": checked, "overlap": 0}


def _refuse_shared(
    one: str, other: str, sides: Mapping[str, Sequence[Example]], apart: Callable[[Example], str]
) -> None:
    seen = {apart(example): example.id for example in sides[one]}
    for example in sides[other]:
        twin = seen.get(apart(example))
        if twin is not None:
            raise DataError(
                f"leak between {one} and {other}: {example.id!r} belongs to the same group as {twin!r}; "
                "a number measured on what was learnt means nothing. Take one out."
            )
