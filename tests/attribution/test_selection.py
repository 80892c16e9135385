"""Selections: who is kept, and the reasons given."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from influcoder.attribution.selection import Selection
from influcoder.errors import ConfigError

IDS = ["a", "b", "c", "d", "e"]
SCORES = np.array([0.5, -0.25, 0.75, 0.5, 0.0], np.float32)
shares = st.floats(0.001, 1)
some_scores = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40)


def named(scores):
    return [f"r{n}" for n in range(len(scores))], np.array(scores, np.float32)


@pytest.mark.parametrize(
    ("share", "kept"), [(0.2, ["c"]), (0.4, ["a", "c"]), (0.6, ["a", "c", "d"]), (1, IDS), (0.001, ["c"])]
)
def test_top_by_hand(share, kept):
    assert Selection.top(IDS, SCORES, share=share).kept_ids == kept


@pytest.mark.parametrize(("share", "kept"), [(0.2, ["a", "b", "d", "e"]), (0.4, ["b", "d", "e"]), (1, [])])
def test_drop_by_hand(share, kept):
    assert Selection.drop(IDS, SCORES, share=share).kept_ids == kept


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, ["a", "c", "d"]), (0.51, ["c"]), (-1, IDS), (1, []), (0, 4)])
def test_threshold_by_hand(threshold, kept):
    found = Selection.above(IDS, SCORES, threshold=threshold).kept_ids
    assert found == kept or len(found) == kept


@given(scores=some_scores, share=shares)
def test_top_keeps_as_many_as_asked_and_none_below_them(scores, share):
    ids, scores = named(scores)
    found = Selection.top(ids, scores, share=share)
    assert found.kept.sum() == max(1, round(share * len(ids)))
    if not found.kept.all():
        assert scores[found.kept].min() >= scores[~found.kept].max()


@given(scores=some_scores, share=shares)
def test_ties_go_by_order(scores, share):
    ids, scores = named([round(one) for one in scores])
    found = Selection.top(ids, scores, share=share)
    for value in set(scores.tolist()):
        kept = found.kept[scores == value].tolist()
        assert kept == sorted(kept, reverse=True)


@given(scores=some_scores, share=shares)
def test_drop_is_what_top_leaves(scores, share):
    ids, scores = named(scores)
    top, drop = Selection.top(ids, scores, share=share), Selection.drop(ids, scores, share=share)
    assert (top.kept ^ drop.kept).all()
    assert sorted(top.kept_ids + drop.kept_ids) == sorted(ids)


@pytest.mark.parametrize("share", [0, -0.1, 1.0001, 5, float("nan"), float("inf")])
@pytest.mark.parametrize("rule", [Selection.top, Selection.drop])
def test_shares_out_of_bounds(rule, share):
    with pytest.raises(ConfigError, match="share is"):
        rule(IDS, SCORES, share=share)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf")])
def test_threshold_that_is_no_number(threshold):
    with pytest.raises(ConfigError, match="threshold is"):
        Selection.above(IDS, SCORES, threshold=threshold)


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (Selection.top(IDS, SCORES, share=0.4), "top 0.4 of the rows by score"),
        (Selection.drop(IDS, SCORES, share=0.4), "all but the top 0.4 of the rows by score"),
        (Selection.above(IDS, SCORES, threshold=0.5), "score at least 0.5"),
    ],
)
def test_table_says_why(made, rule):
    table = made.table()
    assert table.column_names == ["id", "score", "percentile", "kept", "reason"]
    assert table["id"].to_pylist() == IDS
    assert table["score"].to_pylist() == SCORES.tolist()
    for kept, reason in zip(table["kept"].to_pylist(), table["reason"].to_pylist(), strict=True):
        assert reason == (f"kept: {rule}" if kept else f"rejected: not {rule}")
    assert [name for name, kept in zip(IDS, table["kept"].to_pylist(), strict=True) if kept] == made.kept_ids


def test_percentiles_rank_the_scores():
    table = Selection.top(IDS, SCORES, share=0.4).table()
    assert table["percentile"].to_pylist() == [50, 0, 100, 75, 25]


def test_percentile_of_one_row():
    assert Selection.top(["a"], SCORES[:1], share=1).table()["percentile"].to_pylist() == [0]


def test_saved_table_is_the_table(tmp_path):
    made = Selection.top(IDS, SCORES, share=0.4)
    made.save(tmp_path / "selection.parquet")
    assert pq.read_table(tmp_path / "selection.parquet").equals(made.table())
    assert [path.name for path in tmp_path.iterdir()] == ["selection.parquet"]


def test_selections_of_the_same_scores_are_saved_alike(tmp_path):
    for name in ("one", "other"):
        Selection.top(IDS, SCORES, share=0.4).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
