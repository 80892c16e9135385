"""The scan against scoring every row in double precision."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from influcoder.indexes import scan
from influcoder.indexes.scan import Block
from influcoder.store.scalar_code import ScalarCode

NAMES = ("float16", "int8", "int4")


def plain(code, stored, queries, k, rows=None):
    """Every score in double precision, ties by row number."""
    rows = np.arange(len(stored)) if rows is None else rows
    truth = (queries.astype(np.float64) * code.scale) @ code.numbers(stored).astype(np.float64).T
    scores = truth.astype(np.float32)
    order = np.stack([np.lexsort((rows, -one))[:k] for one in scores])
    return rows[order], np.take_along_axis(scores, order, 1)


def blocks(code, stored, size):
    parts = [(start, stored[start : start + size]) for start in range(0, len(stored), size)]
    return [partial(Block, start, part, code.facts(part)["reach"]) for start, part in parts]


@pytest.fixture(autouse=True, params=["8 bits", "single precision"])
def way(request, monkeypatch):
    """Both ways of multiplying, whatever this processor has."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: request.param == "8 bits")


@pytest.mark.parametrize("name", NAMES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    threads=st.sampled_from([1, 2]),
    rows=st.integers(1, 80),
    dim=st.integers(1, 40),
    k=st.integers(1, 20),
    size=st.integers(1, 50),
    seed=st.integers(0, 999),
    spread=st.floats(0, 3),
    coarse=st.booleans(),
)
def test_top_is_that_of_every_score(threads, name, rows, dim, k, size, seed, spread, coarse):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, dim)) * np.exp(spread * rng.standard_normal(dim))
    vectors = vectors.clip(-6e4, 6e4)  # what float16 cannot hold is never stored
    vectors = (np.round(vectors) if coarse else vectors).astype(np.float32)  # ties
    queries = rng.standard_normal((3, dim)).astype(np.float32)
    queries[2] = 0
    code = ScalarCode.fit(name, vectors)
    stored = code.encode(vectors)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = scan.top(code, blocks(code, stored, size), queries, k)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    expected = plain(code, stored, queries, k)
    np.testing.assert_array_equal(found.scores, expected[1])
    np.testing.assert_array_equal(found.rows, expected[0])
    highest, lowest = scan.both_ends(code, blocks(code, stored, size), queries, k)
    np.testing.assert_array_equal(highest.rows, found.rows)
    np.testing.assert_array_equal(highest.scores, found.scores)
    expected = plain(code, stored, -queries, k)
    np.testing.assert_array_equal(lowest.scores, -expected[1])
    np.testing.assert_array_equal(lowest.rows, expected[0])
    np.testing.assert_allclose(
        scan.scores(code, stored, queries), queries @ code.decode(stored).T, rtol=1e-4, atol=1e-4 * np.abs(stored).max()
    )


def test_query_rounded_to_eight_bits_would_get_it_wrong():
    """Rows that differ by less than the rounding of the query: only their second scoring tells them apart."""
    code = ScalarCode("int8", np.ones(2, np.float32))
    stored = np.array([[100, 1], [100, 2], [100, 3]], np.int8)
    query = np.array([[1, 0.001]], np.float32)
    assert scan.top(code, blocks(code, stored, 3), query, 1).rows.tolist() == [[2]]
    assert scan.top(code, blocks(code, stored, 1), -query, 3).rows.tolist() == [[0, 1, 2]]


def test_rows_left_out_keep_their_numbers():
    code, rng = ScalarCode("int8", np.ones(4, np.float32)), np.random.default_rng(0)
    stored = rng.integers(-9, 10, (50, 4), dtype=np.int8)
    kept = np.flatnonzero(rng.random(50) < 0.3)
    queries = rng.standard_normal((2, 4)).astype(np.float32)
    block = Block(0, stored[kept], code.facts(stored)["reach"], kept)
    found = scan.top(code, [lambda: Block(0, stored[:0], 0.0), lambda: block], queries, 5)
    np.testing.assert_array_equal(found.rows, plain(code, stored[kept], queries, 5, kept)[0])


def test_nothing_to_scan():
    found = scan.top(ScalarCode("int8", np.ones(4, np.float32)), [], np.ones((2, 4), np.float32), 3)
    assert found.rows.shape == found.scores.shape == (2, 0)


def test_more_queries_than_are_multiplied_together():
    code, rng = ScalarCode("int8", np.ones(4, np.float32)), np.random.default_rng(0)
    stored = rng.integers(-9, 10, (50, 4), dtype=np.int8)
    queries = rng.standard_normal((2 * scan.QUERIES + 3, 4)).astype(np.float32)
    found = scan.top(code, blocks(code, stored, 20), queries, 5)
    np.testing.assert_array_equal(found.rows, plain(code, stored, queries, 5)[0])


def test_few_rows_are_scored_twice(monkeypatch):
    rng = np.random.default_rng(0)
    code = ScalarCode.fit("int8", vectors := rng.standard_normal((40_000, 64)).astype(np.float32))
    stored, again, strongest = code.encode(vectors), [], scan._Queries.strongest

    def counted(*arguments):
        for found in strongest(*arguments):
            again.append(len(found[2]))
            yield found

    monkeypatch.setattr(scan._Queries, "strongest", counted)
    scan.top(code, blocks(code, stored, 4000), rng.standard_normal((1, 64)).astype(np.float32), 10)
    assert sum(again) < 200
