"""What a re-check proves of the rest: the whole statement, simulated, and the sample that it rests on."""

from types import SimpleNamespace

import numpy as np
import pytest

from influcoder.attribution.certified import Certified, draw_others
from influcoder.attribution.search import search
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes.scan import Ranked
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.teacher import Features

QUERY = [Example("q", "p", "c")]


class Pool:
    """An index and a teacher of made-up scores: one number a row is the estimate, another the truth."""

    def __init__(self, estimates, truth):
        self.estimates, self.truth, self.asked = estimates, truth, []
        self.settings = TeacherSettings()
        self.encoder = SimpleNamespace(query_projector=None, trust={}, encode_query=lambda queries: self.ones(queries))

    def ones(self, queries):
        return np.ones((len(queries), 1), np.float32)

    def __len__(self):
        return len(self.truth)

    def search(self, queries, k, *, opponents=False, where=None):
        rows = np.argsort(self.estimates if opponents else -self.estimates, kind="stable")
        rows = rows[rows % 2 == 0] if where else rows
        return Ranked(np.tile(rows[:k], (len(queries), 1)), np.tile(self.estimates[rows[:k]], (len(queries), 1)))

    def examples_at(self, rows):
        return [Example(str(row), "p", "c") for row in rows]

    def features(self, examples, role, advance=None):
        if role == "query":
            vectors = self.ones(examples)
        else:
            rows = [int(one.id) for one in examples]
            self.asked.append(rows)
            vectors = self.truth[rows][:, None].astype(np.float32)
        none = np.zeros(len(examples), np.float32)
        return Features(vectors, none, none, none.astype(bool), {})


def made_up(seed, rows, *, agreement=0.7):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal(rows).astype(np.float32)
    noise = rng.standard_normal(rows).astype(np.float32)
    return Pool(agreement * truth + (1 - agreement**2) ** 0.5 * noise, truth)


def found(pool, **options):
    return search(pool, QUERY, teacher=pool, **({"k": 10, "verify": 30, "certify": 50} | options))[0]


def share_above(pool, hits, verify, opponents=False):
    rest = np.argsort(pool.estimates if opponents else -pool.estimates, kind="stable")[verify:]
    last = hits[-1].exact
    return np.mean(pool.truth[rest] < last if opponents else pool.truth[rest] > last)


@pytest.mark.parametrize(
    ("agreement", "opponents", "k"), [(0.9, False, 10), (0.3, False, 10), (0.3, False, 30), (0.1, True, 30)]
)
def test_the_statement_holds_for_94_of_100_pools(agreement, opponents, k):
    covered, shares = [], []
    for seed in range(1000):
        pool = made_up(seed, 400, agreement=agreement)
        hits = found(pool, k=k, opponents=opponents)
        shares.append(share_above(pool, hits, 30, opponents))
        covered.append(hits.certified.at_most >= shares[-1])
        assert (hits.certified.sampled, hits.certified.others, hits.certified.confidence) == (50, 370, 0.95)
    assert np.mean(covered) >= 0.94
    if agreement < 0.9:
        assert np.mean(shares) > 0.01  # there is something to be covered


@pytest.mark.parametrize("opponents", [False, True])
def test_counts_are_those_of_the_sample(opponents):
    pool = made_up(3, 400, agreement=0.1)
    hits = found(pool, k=30, certify=100, opponents=opponents)
    shortlist = np.argsort(pool.estimates if opponents else -pool.estimates, kind="stable")[:30]
    sampled = np.setdiff1d(pool.asked[0], shortlist)
    beyond = pool.truth[sampled] < hits[-1].exact if opponents else pool.truth[sampled] > hits[-1].exact
    assert (hits.certified.sampled, hits.certified.above) == (100, beyond.sum())
    assert 0 < beyond.sum() < 100


def test_a_sample_of_all_that_is_left_is_no_longer_a_guess():
    pool = made_up(3, 60, agreement=0.1)
    hits = found(pool, k=30, certify=1000)
    assert hits.certified.sampled == hits.certified.others == 30
    assert hits.certified.at_most == pytest.approx(share_above(pool, hits, 30))
    assert hits.certified.confidence == 1
    assert found(made_up(3, 20), certify=5).certified == Certified(0, 0, 0, 0.0, 1.0)


def test_rows_that_where_leaves_out_are_no_others():
    pool = made_up(3, 401)
    hits = found(pool, where="even")
    assert hits.certified.others == 201 - 30
    assert all(row % 2 == 0 for row in pool.asked[0])


def test_the_hits_are_the_same_with_and_without():
    pool = made_up(5, 300)
    assert list(found(pool)) == list(found(pool, certify=0))
    assert found(pool, certify=0).certified is None
    assert found(pool).certified == found(pool).certified  # the same rows are drawn again


def test_queries_share_the_samples_gradients():
    shortlists = [np.arange(n, n + 40) for n in (0, 20, 500)]
    drawn = draw_others(np.arange(1000), shortlists, 100, seed=1)
    for rows, shortlist in zip(drawn, shortlists, strict=True):
        assert len(set(rows.tolist())) == 100
        assert not set(rows.tolist()) & set(shortlist.tolist())
    assert len(np.unique(drawn)) <= 100 + 40


def test_every_other_row_is_as_likely_to_be_drawn():
    counts = np.zeros(30)
    for seed in range(3000):
        counts[draw_others(np.arange(30), [np.arange(10)], 5, seed=seed)[0]] += 1
    assert not counts[:10].any()
    np.testing.assert_allclose(counts[10:] / 3000, 5 / 20, atol=0.04)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"verify": 0}, "--certify bounds what is missed .* give --verify N and --decoder"),
        ({"verify": 0, "certify": 0, "tokens": True}, "--tokens tells .* give --verify N and --decoder"),
        ({"certify": -1}, "certify is -1, expected at least 1"),
    ],
)
def test_what_cannot_be_certified(options, told):
    with pytest.raises(ConfigError, match=told):
        found(made_up(0, 100), **options)
