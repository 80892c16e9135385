"""Random samples of streams, in memory that holds only the sample."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from influcoder.data.examples import Example
from influcoder.errors import ConfigError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample, in the order of its stream, and how many examples it was drawn from."""

    examples: list[Example]
    of: int


def draw(examples: Iterable[Example], size: int, seed: int) -> Drawn:
    """`size` of the examples, or all if there are fewer, each with the same chance.

    Raises:
        ConfigError: `size` is below 1.

    >>> [example.id for example in draw((Example(str(n), "", "a") for n in range(100)), 3, seed=0).examples]
    ['11', '44', '47']
    """
    if size < 1:
        raise ConfigError(f"a sample of {size} rows was asked for, expected at least 1.")
    kept, count = reservoir(enumerate(examples), size, np.random.default_rng(seed))
    return Drawn([example for _, example in sorted(kept, key=lambda numbered: numbered[0])], count)


def reservoir(items: Iterable[Item], size: int, rng: np.random.Generator) -> tuple[list[Item], int]:
    """(`size` of the items, how many there are): every item has the same chance (algorithm R, Vitter 1985)."""
    kept: list[Item] = []
    count = 0
    for count, item in enumerate(items, 1):
        if len(kept) < size:
            kept.append(item)
        elif (place := int(rng.integers(count))) < size:
            kept[place] = item
    return kept, count
