"""How a store keeps vectors: `VectorCode` says what a code is, `Plain` keeps numbers as they are.

A store knows codes by the names in its manifest: whoever reads it hands in a registry of those that it can read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats

Arrays = Mapping[str, NDArray[Any]]


class VectorCode(Protocol):
    """How a store keeps vectors. A new one is a class with these names, and a line in the registry of its readers."""

    @property
    def dim(self) -> int:
        """Numbers in a vector."""

    @property
    def dtype(self) -> str:
        """The type of stored numbers."""

    @property
    def bytes(self) -> int:
        """Of a stored vector."""

    @property
    def spec(self) -> dict[str, Any]:
        """What the manifest says of it: a name, and whatever else tells it from another; nothing for `Plain`."""

    @property
    def arrays(self) -> Arrays:
        """What it needs and is too large for the manifest; `spec` holds a hash of it."""

    def encode(self, vectors: Floats) -> NDArray[Any]:
        """(n, dim) vectors as numbers that the store keeps in `dtype`."""

    def decode(self, stored: NDArray[Any]) -> Floats:
        """(n, dim) vectors, as near as the code keeps them."""

    def facts(self, stored: NDArray[Any]) -> dict[str, Any]:
        """What a reader wants to know of a shard's vectors before it reads them."""


AnyCode = TypeVar("AnyCode", bound=VectorCode, covariant=True)
Codes = Mapping[str, Callable[[Mapping[str, Any], Arrays], AnyCode]]
"""a registry: what makes the code of a name, from the manifest and the code's arrays"""


@dataclass(frozen=True, slots=True)
class Plain:
    """Vectors as they are, in "float16" or "float32"."""

    dim: int
    dtype: str = "float16"

    @property
    def bytes(self) -> int:
        return self.dim * np.dtype(self.dtype).itemsize

    @property
    def spec(self) -> dict[str, Any]:
        return {}

    @property
    def arrays(self) -> Arrays:
        return {}

    def encode(self, vectors: Floats) -> NDArray[Any]:
        return vectors

    def decode(self, stored: NDArray[Any]) -> Floats:
        return stored.astype(np.float32)

    def facts(self, _: NDArray[Any]) -> dict[str, Any]:
        return {}


PLAIN: Codes[Plain] = {"plain": lambda manifest, _: Plain(manifest["dim"], manifest["dtype"])}
