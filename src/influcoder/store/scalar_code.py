"""How an index stores a vector: as half-precision numbers, or as whole numbers with a scale per dimension.

| code | bytes per example | a number is |
|---|---|---|
| `float16` | 2 dim | itself, to 11 bits |
| `int8` | dim | one of 255 levels |
| `int4` | dim / 2 | one of 15 levels, two to a byte |

The scales are fitted to a sample: of several shares of the largest number in a dimension, the one with the least
squared error is taken; numbers beyond the last level are stored as the last level.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats
from influcoder.store.codes import Arrays, Codes

CodeName = Literal["float16", "int8", "int4"]
_LAST_LEVEL = {"int8": 127, "int4": 7}
AT_ONCE = 4096
"""vectors that are encoded together"""
_SHARES = np.linspace(0.3, 1, 15, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class ScalarCode:
    """Numbers of few bits, in units of their dimension's scale; make one with `ScalarCode.fit`.

    Attributes:
        name: as in the table above.
        scale: (dim,) the size of a level; ones for float16.

    >>> import numpy as np
    >>> code = ScalarCode.fit("int8", np.array([[1, -2], [0.5, 1]], np.float32))
    >>> code.encode(np.array([[1, 1]], np.float32)).tolist()
    [[127, 64]]
    """

    name: CodeName
    scale: Floats

    @classmethod
    def fit(cls, name: CodeName, sample: Floats) -> "ScalarCode":
        """The code of that name for vectors like those of `sample`, (n, dim)."""
        if name not in get_args(CodeName):
            raise ConfigError(f"code is {name!r}, expected one of {', '.join(get_args(CodeName))}.")
        if name == "float16":
            return cls(name, np.ones(sample.shape[1], np.float32))
        last = _LAST_LEVEL[name]
        largest = np.abs(sample).max(axis=0, initial=0)
        scales = np.where(largest > 1e-30, largest * _SHARES[:, None] / last, 1).astype(np.float32)
        errors = [((_levels(sample, scale, last) * scale - sample) ** 2).sum(axis=0) for scale in scales]
        return cls(name, np.take_along_axis(scales, np.argmin(errors, axis=0)[None], 0)[0])

    @classmethod
    def read(cls, manifest: Mapping[str, Any], arrays: Arrays) -> "ScalarCode":
        """The code of a manifest."""
        name = manifest["code"]["name"]
        return cls(name, np.ones(manifest["dim"], np.float32) if name == "float16" else arrays["scale"])

    @property
    def spec(self) -> dict[str, Any]:
        scale = "" if self.name == "float16" else hashlib.sha256(self.scale.tobytes()).hexdigest()
        return {"name": self.name, "scale": scale}

    @property
    def arrays(self) -> Arrays:
        return {} if self.name == "float16" else {"scale": self.scale}

    @property
    def dim(self) -> int:
        return len(self.scale)

    @property
    def dtype(self) -> str:
        return {"float16": "float16", "int8": "int8", "int4": "uint8"}[self.name]

    @property
    def bytes(self) -> int:
        """The size of a stored vector."""
        return {"float16": 2 * self.dim, "int8": self.dim, "int4": (self.dim + 1) // 2}[self.name]

    def encode(self, vectors: Floats) -> NDArray[Any]:
        """(n, dim) vectors as they are stored; a number that float16 cannot hold becomes infinite."""
        if self.name == "float16":
            with np.errstate(over="ignore"):
                return vectors.astype(np.float16)
        stored = np.empty((len(vectors), self.bytes), self.dtype)
        for start in range(0, len(vectors), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            levels = _levels(vectors[part], self.scale, _LAST_LEVEL[self.name]).astype(np.int8)
            stored[part] = levels if self.name == "int8" else _packed(levels)
        return stored

    def numbers(self, stored: NDArray[Any]) -> NDArray[Any]:
        """(n, dim) stored numbers, in units of `scale`: float16, or int8 levels."""
        return stored if self.name != "int4" else _unpacked(stored, self.dim)

    def decode(self, stored: NDArray[Any]) -> Floats:
        """(n, dim) vectors, as exact as the code keeps them."""
        return np.asarray(self.numbers(stored).astype(np.float32) * self.scale, np.float32)

    def facts(self, stored: NDArray[Any]) -> dict[str, Any]:
        """reach: the length of the longest row of `numbers`, rounded up."""
        longest = 0.0
        for start in range(0, len(stored), AT_ONCE):
            numbers = self.numbers(stored[start : start + AT_ONCE]).astype(np.float32)
            longest = max(longest, np.einsum("ij,ij->i", numbers, numbers).max(initial=0))
        return {"reach": float(np.sqrt(np.float32(longest)) * (1 + 1e-5))}


CODES: Codes[ScalarCode] = dict.fromkeys(get_args(CodeName), ScalarCode.read)


def _levels(vectors: Floats, scale: Floats, last: int) -> Floats:
    return np.asarray(np.clip(np.rint(vectors / scale), -last, last), np.float32)


def _packed(levels: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two levels of -7 to 7 in a byte, the first in the low half."""
    if levels.shape[1] % 2:
        levels = np.pad(levels, ((0, 0), (0, 1)))
    shifted = (levels + 8).astype(np.uint8)
    return np.asarray(shifted[:, ::2] | shifted[:, 1::2] << 4, np.uint8)


def _unpacked(stored: NDArray[np.uint8], dim: int) -> NDArray[np.int8]:
    levels = np.empty((len(stored), 2 * stored.shape[1]), np.int8)
    levels[:, ::2] = stored & 15
    levels[:, 1::2] = stored >> 4
    return (levels - np.int8(8))[:, :dim]
