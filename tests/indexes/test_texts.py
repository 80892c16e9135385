"""Texts of rows: read by row group or laid out, they are the same."""

import numpy as np
import pytest

from helpers.given_vectors import ROWS, build, pool
from influcoder.indexes import texts
from influcoder.indexes.index import Index


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setattr("influcoder.store.shards.GROUP_ROWS", 5)
    monkeypatch.setattr(texts, "GROUP_ROWS", 5)
    build(tmp_path / "index")
    return Index(tmp_path / "index")


WANTED = [99, 0, 17, 0, 4, 5, 16, 98]


def test_rows_come_in_the_order_they_are_asked_for(index):
    expected = [pool()[row] for row in WANTED]
    assert index.examples_at(WANTED) == expected
    assert index.examples_at(np.array(WANTED)) == expected
    assert index.examples_at([]) == []


def test_a_row_group_is_read_once(index, monkeypatch):
    read, some = [], index.store.some
    monkeypatch.setattr(
        index.store, "some", lambda shard, *more: read.append((shard["name"], *more)) or some(shard, *more)
    )
    index.examples_at(range(20))
    assert len(read) == len(set(read)) == 5  # four of the first shard's 16 rows, one of the second's


def test_laid_out_nothing_is_read(index, tmp_path, monkeypatch):
    assert index.texts.lay_out(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    monkeypatch.setattr(index.store, "some", None)
    assert index.examples_at(range(ROWS)) == pool()


def test_what_does_not_fit_is_read_from_the_index(index, tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "MOST", 100)
    assert not index.texts.lay_out(tmp_path)
    assert not index.texts.lay_out(tmp_path / "nowhere")
    assert index.examples_at(WANTED) == [pool()[row] for row in WANTED]
