"""Regions of a pool: their rows, names and influence; the band of unrelated questions."""

import numpy as np
import pytest

from helpers.given_vectors import Fixed
from influcoder.attribution.null_band import null_band, reference_directions
from influcoder.attribution.regions import find_regions, sample_vectors
from influcoder.data.examples import Example
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index

TOPICS = ("engine", "violin", "harvest")


class Topical(Fixed):
    """An encoder that has vectors of questions too."""

    trust, query_projector = {}, None

    def encode_query(self, examples):
        return self.vectors[[int(one.prompt.split()[-1]) for one in examples]]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Three topics of different size, each along an axis of its own."""
    rng = np.random.default_rng(0)
    topics = np.array([0] * 50 + [1] * 30 + [2] * 20)
    vectors = 8 * np.eye(4, dtype=np.float32)[topics] * rng.uniform(0.5, 2, (100, 1)) + rng.normal(0, 0.3, (100, 4))
    examples = [Example(str(n), f"about the row {n}", f"the {TOPICS[topic]}") for n, topic in enumerate(topics)]
    folder = tmp_path_factory.mktemp("topics")
    encoder = Topical(vectors.astype(np.float32))
    indexing.build(encoder, iter(examples), folder, shard_rows=16)
    opened = Index(folder)
    opened.encoder = encoder
    return opened


def test_regions_are_the_topics_largest_first_and_named_by_their_words(index):
    regions = find_regions(index, 3)
    assert regions.sizes == (50, 30, 20)
    assert [TOPICS[number] in name for number, name in enumerate(regions.names)] == [True] * 3
    assert np.bincount(regions.of_row).tolist() == [50, 30, 20]
    np.testing.assert_array_equal(find_regions(index, 3).of_row, regions.of_row)


def test_a_region_has_the_influence_of_its_rows(index):
    regions = find_regions(index, 3)
    scores = index.scores(np.float32([[0, 1, -1, 0]]))[0]
    engine, violin, harvest = regions.influence(scores)
    assert violin.positive > 0.9 > 0.1 > engine.positive
    assert harvest.negative > 0.9
    assert violin.rows == 30


def test_a_pool_of_fewer_rows_than_regions(tmp_path):
    vectors = np.eye(2, dtype=np.float32)
    examples = [Example(str(n), "", "same words") for n in range(2)]
    indexing.build(Fixed(vectors), iter(examples), tmp_path)
    assert sum(find_regions(Index(tmp_path), 5).sizes) == 2


def test_a_sample_has_rows_of_every_part(index):
    assert sample_vectors(index, 1000, np.random.default_rng(0)).shape == (100, 4)
    assert 40 <= len(sample_vectors(index, 50, np.random.default_rng(0))) <= 60


def test_the_band_holds_what_unrelated_questions_give(index):
    references = reference_directions(index)
    np.testing.assert_allclose(np.linalg.norm(references, axis=1), 1, rtol=1e-5)
    question = np.float32([3, 0, 0, 4])
    low, high = null_band(index.vectors, question, references)
    scores = 5 * references @ index.vectors.T
    inside = ((scores >= low) & (scores <= high)).mean()
    assert inside == pytest.approx(0.95, abs=0.01)
    assert null_band(index.vectors, 2 * question, references) == pytest.approx((2 * low, 2 * high))
