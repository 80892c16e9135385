"""How a store keeps vectors: `VectorCode` is the protocol of a code, `Plain` keeps numbers as they are.

A manifest names its store's code; a reader passes a registry of the codes that it can read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from influcoder.maths.arrays import Floats

Arrays = Mapping[str, NDArray[Any]]


class VectorCode(Protocol):
    """How a store keeps vectors. A new code is a class with these names, and a line in the registry of its readers."""

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""

    @property
    def dtype(self) -> str:
        """The type of stored numbers."""

    @property
    def bytes(self) -> int:
        """The size of a stored vector."""

    @property
    def spec(self) -> dict[str, Any]:
        """Its entry in the manifest: a name, and whatever else identifies it; empty for `Plain`."""

    @property
    def arrays(self) -> Arrays:
        """Arrays that are too large for the manifest; `spec` holds a hash of them."""

    def encode(self, vectors: Floats) -> NDArray[Any]:
        """(n, dim) vectors as the numbers that the store keeps, in `dtype`."""

    def decode(self, stored: NDArray[Any]) -> Floats:
        """(n, dim) vectors, as exact as the code keeps them."""

    def facts(self, stored: NDArray[Any]) -> dict[str, Any]:
        """Facts about a shard's vectors that a reader needs before it reads them."""


AnyCode = TypeVar("AnyCode", bound=VectorCode, covariant=True)
Codes = Mapping[str, Callable[[Mapping[str, Any], Arrays], AnyCode]]
"""a registry: functions that make the code of a name from the manifest and the code's arrays"""


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
