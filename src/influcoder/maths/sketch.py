"""CountSketch: long vectors to short ones with inner products kept in expectation.

E⟨Sg, Sh⟩ = ⟨g, h⟩ over the random signs and places, with variance at most
(‖g‖²‖h‖² + ⟨g, h⟩²) / width (Charikar, Chen, Farach-Colton 2002).

A general CountSketch scatters every number to a hashed place, one random memory access each. Here the
hash is a random rotation of each run of `width` consecutive coordinates: two coordinates of one run never
meet, two of different runs meet with probability 1 / width, and the signs are independent, so
expectation and variance bound are those of CountSketch, while the work is additions of contiguous memory.
"""

import torch
from torch import Tensor


class CountSketch:
    """Adds the parts of a vector, given in a fixed order, into `width` numbers.

    Args:
        lengths: how many numbers each part of the vector has.
        width: how many numbers the sketch has.
        seed: decides signs and rotations; the same seed gives the same sketch on any device.

    >>> import torch
    >>> sketch = CountSketch([3, 5], width=4, seed=0)
    >>> parts = [torch.ones(2, 3), torch.ones(2, 5)]
    >>> sketch(parts).shape
    torch.Size([2, 4])
    """

    def __init__(self, lengths: list[int], width: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.lengths = lengths
        self.width = width
        self._signs: list[Tensor] = []
        self._rotations: list[list[int]] = []
        for length in lengths:
            bits = torch.randint(0, 2, (length,), generator=generator, dtype=torch.int8)
            self._signs.append((2 * bits - 1).float())
            runs = -(-length // width)
            self._rotations.append(torch.randint(0, width, (runs,), generator=generator).tolist())

    def __call__(self, parts: list[Tensor]) -> Tensor:
        """The sketch, (n, width) float32, of parts that are (n, length) each."""
        sketch = torch.zeros(len(parts[0]), self.width, device=parts[0].device)
        for number, part in enumerate(parts):
            self.add(sketch, number, part)
        return sketch

    def back(self, sketch: Tensor, number: int) -> Tensor:
        """The transpose: (n, length) whose inner products with part `number` are those of `sketch` with its sketch."""
        runs = [sketch.roll(-rotation, dims=1) for rotation in self._rotations[number]]
        signs = self._signs[number] = self._signs[number].to(sketch.device)
        return torch.cat(runs, dim=1)[:, : self.lengths[number]] * signs

    def add(self, sketch: Tensor, number: int, part: Tensor) -> None:
        """Add part `number`, (n, length), to `sketch`, (n, width), in place."""
        signs = self._signs[number] = self._signs[number].to(part.device)
        signed = part * signs
        for run, rotation in enumerate(self._rotations[number]):
            piece = signed[:, run * self.width : (run + 1) * self.width]
            before_wrap = min(piece.shape[1], self.width - rotation)
            sketch[:, rotation : rotation + before_wrap] += piece[:, :before_wrap]
            sketch[:, : piece.shape[1] - before_wrap] += piece[:, before_wrap:]
