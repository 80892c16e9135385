"""A random sample of a stream of examples, in the stream's own order, in memory that holds the sample alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from influcoder.data.examples import Example
from influcoder.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample, and how many examples it was drawn from."""

    examples: list[Example]
    of: int


def draw(examples: Iterable[Example], size: int, seed: int) -> Drawn:
    """`size` of the examples, or all where there are fewer, each with the same chance (algorithm R, Vitter 1985).

    Raises:
        ConfigError: less than one is asked for.

    >>> [one.id for one in draw((Example(str(n), "", "a") for n in range(100)), 3, seed=0).examples]
    ['11', '44', '47']
    """
    if size < 1:
        raise ConfigError(f"a sample of {size} rows was asked for, expected at least 1.")
    rng = np.random.default_rng(seed)
    kept: list[tuple[int, Example]] = []
    count = 0
    for count, example in enumerate(examples, 1):
        if len(kept) < size:
            kept.append((count, example))
        elif (place := int(rng.integers(count))) < size:
            kept[place] = count, example
    return Drawn([example for _, example in sorted(kept, key=lambda one: one[0])], count)
