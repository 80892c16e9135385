"""Vectors on a plane, and in clusters."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from influcoder.maths import projection
from influcoder.maths.clusters import cluster_centres, nearest_centre
from influcoder.maths.projection import principal_plane, umap_places


def test_the_plane_is_that_of_the_singular_vectors():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((80, 6)).astype(np.float32) * np.float32([9, 1, 5, 1, 1, 1]) + 3
    places = principal_plane(vectors)(vectors)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs(left[:, :2] * sizes[:2]), atol=1e-3)


def test_vectors_of_one_number_lie_on_a_line():
    places = principal_plane(np.float32([[0], [2], [4]]))(np.float32([[4]]))
    assert places.tolist() == [[2, 0]]


def test_umap_is_used_where_it_is_installed(monkeypatch):
    asked = {}

    class Umap:
        def __init__(self, **settings):
            asked.update(settings)

        def fit_transform(self, vectors):
            asked["rows"] = len(vectors)
            return vectors[:, :2].astype(np.float64)

    vectors = np.arange(30, dtype=np.float32).reshape(10, 3)
    monkeypatch.setattr(projection, "is_installed", lambda _: False)
    assert umap_places(vectors) is None
    monkeypatch.setattr(projection, "is_installed", lambda name: name == "umap")
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    np.testing.assert_array_equal(umap_places(vectors, seed=3), vectors[:, :2])
    assert (asked["random_state"], asked["rows"], asked["n_neighbors"]) == (3, 10, 9)


def test_clusters_find_the_groups_and_repeat_themselves():
    rng = np.random.default_rng(1)
    middles = np.float32([[0, 0], [20, 0], [0, 20]])
    truth = rng.integers(0, 3, 90)
    vectors = (middles[truth] + rng.standard_normal((90, 2))).astype(np.float32)
    centres = cluster_centres(vectors, 3, seed=4)
    labels = nearest_centre(vectors, centres)
    assert {tuple(sorted(set(truth[labels == one]))) for one in range(3)} == {(0,), (1,), (2,)}
    np.testing.assert_array_equal(centres, cluster_centres(vectors, 3, seed=4))
    with pytest.raises(ValueError, match="2 vectors"):
        cluster_centres(vectors[:2], 3)
