"""Filters: the grammar, the columns, and what they leave of an index."""

import contextlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.given_vectors import Fixed, whole_numbers
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes.filters import metadata_columns, parse_filter
from influcoder.indexes.index import Index

GENRES = ("code", "prose", "a,b", 'it"s'.replace('"', "'"))


def pool(rows=60):
    metadata = [
        {
            "genre": GENRES[row % 4],
            "tokens": row * 10,
            "good": row % 3 == 0,
            "share": row / 7,
            "mixed": row if row % 2 else str(row),
            "nested": {"deep": 1},
            "long": "x" * 300,
        }
        | ({"rare": row} if row % 10 == 0 else {})
        for row in range(rows)
    ]
    return [Example(str(row), "p", "c", (), one) for row, one in enumerate(metadata)]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    vectors = whole_numbers(60)
    return Index.build(Fixed(vectors), pool(), tmp_path_factory.mktemp("index"))


CASES = [
    ("genre=code", lambda m: m["genre"] == "code"),
    ("genre != code", lambda m: m["genre"] != "code"),
    ('genre="a,b"', lambda m: m["genre"] == "a,b"),
    ("tokens<200", lambda m: m["tokens"] < 200),
    ("tokens>=200,genre=prose", lambda m: m["tokens"] >= 200 and m["genre"] == "prose"),
    ("tokens>1e2 , tokens<=250", lambda m: 100 < m["tokens"] <= 250),
    ("tokens!=0", lambda m: m["tokens"] != 0),
    ("good=true", lambda m: m["good"]),
    ("good!=true", lambda m: not m["good"]),
    ("share<-1", lambda m: m["share"] < -1),
    ("rare>=20", lambda m: m.get("rare", -1) >= 20),
    ("rare!=20", lambda m: "rare" in m and m["rare"] != 20),
    ("mixed=7", lambda m: str(m["mixed"]) == "7"),
]


@pytest.mark.parametrize(("text", "wanted"), CASES, ids=[text for text, _ in CASES])
def test_only_rows_like_that_are_scored(index, text, wanted):
    rows = np.array([row for row, one in enumerate(pool()) if wanted(one.metadata)], int)
    queries = whole_numbers(2, 5)
    scores = queries @ whole_numbers(60)[rows].T
    found = index.search(queries, 8, where=text)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :8]
    np.testing.assert_array_equal(found.rows, rows[order] if len(rows) else np.empty((2, 0)))
    ids, part = next(index.iter_scores(queries, where=text))
    assert ids.to_pylist() == [str(row) for row in rows]
    np.testing.assert_array_equal(part, scores)


BAD = [
    ("", None),
    ("genre", "cannot be read"),
    ("genre=code,", "cannot be read"),
    ("=code", "cannot be read"),
    ("genre==code", "cannot be read"),
    ('genre="code', "cannot be read"),
    ("genre=code tokens<3", "cannot be read"),
    ("__import__('os').system('x')", "cannot be read"),
    ("colour=red", "no row has such a column; the index has genre, good, mixed, rare, share, tokens"),
    ("nested=1", "no row has such a column"),
    ("tokens<many", "holds numbers, expected one"),
    ("genre<code", "holds text; use = or !="),
    ("good=yes", "good=true"),
    ("good<true", "good=true"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_what_cannot_be_read(index, text, message):
    if message is None:
        index.search(whole_numbers(1), 1, where=text)
        return
    with pytest.raises(ConfigError, match=message):
        index.search(whole_numbers(1), 1, where=text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ConfigError):
        assert parse_filter(text)


def test_kinds_of_columns():
    rows = [
        {"i": 1, "f": 0.5, "b": True, "s": "x", "m": 1, "l": [1], "big": 10**30},
        {"i": None, "f": 2, "b": None, "s": None, "m": True},
        {},
    ]
    columns = metadata_columns([Example(str(n), "p", "c", (), row) for n, row in enumerate(rows)])
    assert {name: column.to_pylist() for name, column in columns.items()} == {
        "meta.i": [1, None, None],
        "meta.f": [0.5, 2, None],
        "meta.b": [True, None, None],
        "meta.s": ["x", None, None],
        "meta.m": ["1", "true", None],
    }
    assert columns["meta.i"].type == pa.float64()
