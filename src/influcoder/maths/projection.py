"""Vectors on a plane: along the two directions in which they vary most, or by UMAP where it is installed."""

import importlib
from collections.abc import Callable

import numpy as np

from influcoder.extras import is_installed
from influcoder.maths.arrays import Floats

Projection = Callable[[Floats], Floats]
"""(n, dim) vectors to their (n, 2) places"""


def principal_plane(vectors: Floats) -> Projection:
    """The two principal directions of vectors, (n, dim): a function that puts any such vectors on their plane.

    A direction's sign is chosen so that its largest coordinate is above zero.

    >>> place = principal_plane(np.float32([[0, 0, 1], [4, 0, 1], [0, 1, 1], [4, 1, 1]]))
    >>> np.abs(place(np.float32([[2, 0.5, 1], [4, 0.5, 1]]))).round(3).tolist()
    [[0.0, 0.0], [2.0, 0.0]]
    """
    middle = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - middle
    directions = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    if directions.shape[1] < 2:
        directions = np.hstack([directions, np.zeros((len(directions), 1))])
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0, keepdims=True), axis=0)
    directions = (directions * np.where(largest < 0, -1, 1)).astype(np.float32)
    return lambda others: np.asarray((others - middle.astype(np.float32)) @ directions, np.float32)


def umap_places(vectors: Floats, *, seed: int = 0) -> Floats | None:
    """(n, 2) places by UMAP (McInnes, Healy and Melville, 2018), which keeps neighbours together; None without it.

    It is of the package `umap-learn`.
    """
    if not is_installed("umap") or len(vectors) < 4:
        return None
    neighbours = min(15, len(vectors) - 1)
    settings = {"n_neighbors": neighbours, "metric": "cosine", "random_state": seed, "n_jobs": 1}
    return np.asarray(importlib.import_module("umap").UMAP(**settings).fit_transform(vectors), np.float32)
