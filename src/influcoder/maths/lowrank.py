"""Layers' gradients as a few singular vectors: LoRIF's code (arXiv 2601.21929), a `VectorCode` of feature stores.

A projected layer gradient of (a, b) numbers is nearly of rank one; its c leading singular triples take
c · (a + b) numbers instead of a · b.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LowRankCode:
    """Rows that are layers' matrices side by side, stored as factors of each.

    Attributes:
        shapes: (a, b) of each layer.
        rank: c.

    >>> code = LowRankCode([(3, 2)], rank=1)
    >>> rows = np.outer([1, 2, 3], [1, -1]).reshape(1, 6).astype(np.float32)
    >>> code.encode(rows).shape, bool(np.allclose(code.decode(code.encode(rows)), rows, atol=1e-4))
    ((1, 5), True)
    """

    shapes: Sequence[tuple[int, int]]
    rank: int

    @classmethod
    def read(cls, manifest: Mapping[str, Any], _: Mapping[str, NDArray[Any]]) -> "LowRankCode":
        """The code of a manifest."""
        return cls([(a, b) for a, b in manifest["code"]["shapes"]], manifest["code"]["rank"])

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return sum(a * b for a, b in self.shapes)

    @property
    def dtype(self) -> str:
        return "float16"

    @property
    def bytes(self) -> int:
        return 2 * self.width

    @property
    def width(self) -> int:
        """Numbers in a coded row."""
        return sum(min(self.rank, a, b) * (a + b) for a, b in self.shapes)

    @property
    def spec(self) -> dict[str, Any]:
        return {"name": "low-rank", "rank": self.rank, "shapes": [list(shape) for shape in self.shapes]}

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        return {}

    def facts(self, _: NDArray[Any]) -> dict[str, Any]:
        return {}

    def encode(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, dim) rows to (n, width) codes."""
        coded: list[Tensor] = []
        parts = torch.split(torch.from_numpy(rows), [a * b for a, b in self.shapes], dim=1)
        for part, shape in zip(parts, self.shapes, strict=True):
            left, right = factors(part.reshape(len(rows), *shape), self.rank)
            coded.append(torch.cat([left.flatten(1), right.flatten(1)], dim=1))
        return torch.cat(coded, dim=1).numpy()

    def decode(self, codes: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(n, width) codes to (n, dim) rows."""
        rows, start = [], 0
        for a, b in self.shapes:
            c = min(self.rank, a, b)
            left = codes[:, start : start + a * c].reshape(-1, a, c).astype(np.float32)
            right = codes[:, start + a * c : start + (a + b) * c].reshape(-1, c, b).astype(np.float32)
            rows.append((left @ right).reshape(len(codes), -1))
            start += (a + b) * c
        return np.concatenate(rows, axis=1)


def factors(matrices: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(n, a, c) and (n, c, b) whose products are the best rank-c likenesses of (n, a, b) matrices.

    The singular values are shared evenly, so that both factors fit half precision.
    """
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    root = s[:, :rank].sqrt()
    return u[:, :, :rank] * root[:, None, :], root[:, :, None] * vh[:, :rank]
