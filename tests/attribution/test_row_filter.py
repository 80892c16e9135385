"""Filters that chain, and the columns that they look at."""

import time

import numpy as np
import pytest

from helpers.given_vectors import Fixed, whole_numbers
from influcoder.attribution.near_duplicates import fold_alike
from influcoder.attribution.pool_columns import PLAIN, PoolColumns
from influcoder.attribution.row_filter import MOST, Filter, Rows
from influcoder.data.examples import Example
from influcoder.errors import ConfigError
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index

ROWS = 20


def example(number):
    metadata = {"genre": ("code", "prose", "verse")[number % 3], "stars": number / 2}
    if number >= 16:
        metadata = {"length": "short"}
    turns = (("system", "be brief"), ("user", "x")) if number % 2 else ()
    text = f"Row  {number // 2 if number < 4 else number}"
    return Example(
        str(number), text.upper() if number % 2 else text, f"a [b]. {'Genoa' * (number % 5 == 0)}", turns, metadata
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    indexing.build(Fixed(whole_numbers(ROWS)), map(example, range(ROWS)), folder, shard_rows=6)
    index = Index(folder)
    scores = np.arange(ROWS, dtype=np.float32)[::-1] - 5
    places = np.stack([np.arange(ROWS), -np.arange(ROWS)], axis=1).astype(np.float32)
    regions = (np.arange(ROWS) // 10).astype(np.int32)
    return Rows(PoolColumns(index), scores, np.arange(1, ROWS + 1), regions, places, {2: "keep", 3: "drop"})


def chosen(rows, *filters):
    mask, counts = rows.chain([Filter.parse(one) for one in filters])
    assert counts[-1] == mask.sum()
    return np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["text~genoa"], [0, 5, 10, 15]),
        (["text!~GENOA", "rank<=5"], [1, 2, 3, 4]),
        (["text~[b]."], list(range(20))),
        (["text~/genoa$/"], [0, 5, 10, 15]),
        (["text~/row +1\\d/"], list(range(10, 20))),
        (["score>=13"], [0, 1]),
        (["percentile>=95"], [0]),
        (["length<14"], [1, 2, 3, 4, 6, 7, 8, 9]),
        (["region=2", "rank<13"], [10, 11]),
        (["role=system+user", "rank<5"], [1, 3]),
        (["role!=system+user", "rank<5"], [0, 2]),
        ([f"role={PLAIN}", "rank<5"], [0, 2]),
        (["duplicate=true"], [3]),
        (["mark=keep"], [2]),
        (["mark=none", "rank<6"], [0, 1, 4]),
        (["map=1,-3,9,0"], [1, 2, 3]),
        (["map!=1,-30,99,0"], [0]),
        (["genre=code", "stars>2"], [6, 9, 12, 15]),
        (["meta.length=short"], [16, 17, 18, 19]),
    ],
)
def test_filters_choose(rows, filters, expected):
    assert chosen(rows, *filters) == expected


def test_counts_are_of_what_is_left_after_each(rows):
    assert rows.chain([Filter.parse(one) for one in ("region=1", "genre=code", "text~genoa")])[1] == [10, 4, 1]
    assert rows.chain([])[0].all()


def test_twins_are_the_same_but_for_case_and_spacing(tmp_path):
    texts = ["One two", "one  TWO ", "other", "one two"]
    examples = [Example(str(n), text, "c") for n, text in enumerate(texts)]
    indexing.build(Fixed(whole_numbers(4)), iter(examples), tmp_path, shard_rows=2)
    found = Rows(PoolColumns(Index(tmp_path)))
    assert found.columns.twins.tolist() == [0, 0, 2, 0]
    assert chosen(found, "duplicate=false") == [0, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("score", "cannot be read"),
        ("=3", "cannot be read"),
        ("genre=", "cannot be read"),
        ("x" * 600 + "=1", "cannot be read"),
        ("score>many", "expected a number"),
        ("score~1", "is a number"),
        ("role=nobody", "one of"),
        ("duplicate>1", "one of"),
        ("map=1,2", "four numbers"),
        ("text=a", "text~a"),
        ("text~/(/", "not a regular expression"),
        ("nothing=1", "no row has such a column; the index has genre, length, stars"),
        ("genre<1", "holds text"),
    ],
)
def test_what_cannot_be_used_is_told(rows, text, told):
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        chosen(rows, text)


def test_a_score_needs_a_question(rows):
    for one in ("score>1", "percentile>1", "rank<2", "region=1", "map=1,2,3,4"):
        with pytest.raises(ConfigError):
            chosen(Rows(rows.columns), one)
    with pytest.raises(ConfigError, match="Take some away"):
        chosen(rows, *["rank<9"] * (MOST + 1))


def test_no_pattern_takes_long(tmp_path):
    """Of engines that try every way (a+)+$ takes years."""
    indexing.build(Fixed(whole_numbers(1)), iter([Example("0", "a" * 50_000 + "!", "c")]), tmp_path)
    began = time.perf_counter()
    assert chosen(Rows(PoolColumns(Index(tmp_path))), "text~/(a+)+$/") == []
    assert time.perf_counter() - began < 1


def test_nearly_the_same_texts_are_folded():
    texts = ["born in Genoa in the year 1801 or so", "born in Genoa, in the year 1801 or so!", "born elsewhere", ""]
    assert fold_alike(texts) == [[0, 1], [2], [3]]
    assert fold_alike([]) == []
