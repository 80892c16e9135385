"""Selections: who is kept, and the reasons given."""

import shutil
from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.given_vectors import Hashed
from influcoder.attribution.rule import Rule
from influcoder.attribution.selection import Selection
from influcoder.data.columns import to_columns
from influcoder.data.reading import read_examples
from influcoder.errors import ConfigError, DataError, StoreCorrupt, StoreError, StoreMismatch
from influcoder.indexes.index import Index

IDS = ["a", "b", "c", "d", "e"]
SCORES = np.array([0.5, -0.25, 0.75, 0.5, 0.0], np.float32)
shares = st.floats(0.001, 1)
some_scores = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=40)


def selected(**rule):
    return Selection.of_scores(IDS, SCORES, **rule)


def named(scores):
    return [f"r{n}" for n in range(len(scores))], np.array(scores, np.float32)


@pytest.mark.parametrize(
    ("share", "kept"), [(0.2, ["c"]), (0.4, ["a", "c"]), (0.6, ["a", "c", "d"]), (1, IDS), (0.001, ["c"])]
)
def test_top_by_hand(share, kept):
    assert selected(top=share).kept_ids == kept


@pytest.mark.parametrize(("share", "kept"), [(0.2, ["a", "b", "d", "e"]), (0.4, ["b", "d", "e"]), (1, [])])
def test_drop_by_hand(share, kept):
    assert selected(drop=share).kept_ids == kept


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, ["a", "c", "d"]), (0.51, ["c"]), (-1, IDS), (1, []), (0, 4)])
def test_threshold_by_hand(threshold, kept):
    found = selected(threshold=threshold).kept_ids
    assert found == kept or len(found) == kept


@given(scores=some_scores, share=shares)
def test_top_keeps_as_many_as_asked_and_none_below_them(scores, share):
    ids, scores = named(scores)
    found = Selection.of_scores(ids, scores, top=share)
    assert found.is_kept.sum() == max(1, round(share * len(ids)))
    if not found.is_kept.all():
        assert scores[found.is_kept].min() >= scores[~found.is_kept].max()


@given(scores=some_scores, share=shares)
def test_ties_go_by_order(scores, share):
    ids, scores = named([round(one) for one in scores])
    found = Selection.of_scores(ids, scores, top=share)
    for value in set(scores.tolist()):
        kept = found.is_kept[scores == value].tolist()
        assert kept == sorted(kept, reverse=True)


@given(scores=some_scores, share=shares)
def test_drop_is_what_top_leaves(scores, share):
    ids, scores = named(scores)
    top, drop = (Selection.of_scores(ids, scores, **{side: share}) for side in ("top", "drop"))
    assert (top.is_kept ^ drop.is_kept).all()
    assert sorted(top.kept_ids + drop.kept_ids) == sorted(ids)


@pytest.mark.parametrize("share", [0, -0.1, 1.0001, 5, float("nan"), float("inf")])
@pytest.mark.parametrize("rule", ["top", "drop"])
def test_shares_out_of_bounds(rule, share):
    with pytest.raises(ConfigError, match="share is"):
        selected(**{rule: share})


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -float("inf")])
def test_threshold_that_is_no_number(threshold):
    with pytest.raises(ConfigError, match="threshold is"):
        selected(threshold=threshold)


@pytest.mark.parametrize(
    ("made", "rule"),
    [
        (selected(top=0.4), "top 0.4 of the rows by score"),
        (selected(drop=0.4), "all but the top 0.4 of the rows by score"),
        (selected(threshold=0.5), "score at least 0.5"),
    ],
)
def test_table_says_why(made, rule):
    table = made.table()
    assert table.column_names == ["id", "score", "percentile", "kept", "reason", "rank"]
    assert table["id"].to_pylist() == IDS
    assert table["score"].to_pylist() == SCORES.tolist()
    for kept, reason in zip(table["kept"].to_pylist(), table["reason"].to_pylist(), strict=True):
        assert reason == (f"kept: {rule}" if kept else f"rejected: not {rule}")
    assert [name for name, kept in zip(IDS, table["kept"].to_pylist(), strict=True) if kept] == made.kept_ids


def test_percentiles_rank_the_scores():
    table = selected(top=0.4).table()
    assert table["percentile"].to_pylist() == [50, 0, 100, 75, 25]


def test_percentile_of_one_row():
    assert Selection.of_scores(["a"], SCORES[:1], top=1).table()["percentile"].to_pylist() == [0]


def test_saved_table_is_the_table(tmp_path):
    made = selected(top=0.4)
    made.save(tmp_path / "selection.parquet")
    assert pq.read_table(tmp_path / "selection.parquet").equals(made.table())
    assert [path.name for path in tmp_path.iterdir()] == ["selection.parquet"]


def test_selections_of_the_same_scores_are_saved_alike(tmp_path):
    for name in ("one", "other"):
        selected(top=0.4).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A selection of an index of mixed rows, and those rows."""
    rows = [{"id": f"r{n}", "question": f"q {n}", "answer": f"a {n}", "level": n, "tags": ["x", "y"]} for n in range(4)]
    rows += [{"id": f"r{n}", "messages": chat(n), "level": None} for n in range(4, 6)]
    index = Index.build(Hashed(), read_examples(rows), tmp_path_factory.mktemp("index"))
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], np.float32)
    return Selection.of(index, scores[None], Rule(top=0.5)), rows


def chat(n):
    return [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": f"a {n}"}]


def without_nothing(rows):
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def test_kept_and_rejected_are_the_rows_of_the_table():
    made = selected(top=0.4)
    assert made.kept["id"].to_pylist() == made.kept_ids == ["a", "c"]
    assert made.rejected["id"].to_pylist() == ["b", "d", "e"]
    assert set(made.kept["reason"].to_pylist()) == {"kept: top 0.4 of the rows by score"}
    assert made.kept.column_names == made.rejected.column_names == made.table().column_names


@pytest.mark.parametrize("rule", [{"top": 0.4}, {"drop": 0.4}, {"threshold": 0.0}, {"threshold": np.float32(0.5)}])
def test_another_rule_gives_what_a_new_selection_gives(chosen, rule):
    selection, _ = chosen
    again = selection.rethreshold(**rule)
    expected = Selection.of(Index(selection.index), selection.scores[None], Rule(**rule))
    assert again.table().equals(expected.table())
    assert (again.index, again.manifest) == (selection.index, selection.manifest)


@pytest.mark.parametrize(
    "rule", [{}, {"top": 0.1, "drop": 0.1}, {"top": "5%"}, {"threshold": []}, {"drop": 2}, {"most": 1}]
)
def test_rules_that_are_none(chosen, rule):
    with pytest.raises(ConfigError):
        chosen[0].rethreshold(**rule)


def test_saved_selection_is_loaded(chosen, tmp_path):
    selection, _ = chosen
    selection.save(tmp_path / "selection.parquet")
    for path in (tmp_path, str(tmp_path / "selection.parquet")):
        loaded = Selection.load(path)
        assert loaded.table().equals(selection.table())
        assert (loaded.rule, loaded.index, loaded.manifest) == (selection.rule, selection.index, selection.manifest)
        assert loaded.rethreshold(drop=0.5).kept_ids == ["r0", "r1", "r2"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table"])
def test_what_is_no_selection(tmp_path, content):
    (tmp_path / "selection.parquet").write_bytes(content)
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    for path in (tmp_path, tmp_path / "other.parquet", tmp_path / "nowhere"):
        with pytest.raises(StoreCorrupt, match="cannot be read as a selection"):
            Selection.load(path)


def test_dataset_has_the_rows_as_they_were(chosen, tmp_path):
    selection, rows = chosen
    found = selection.to_dataset()
    assert found.column_names == ["id", "question", "answer", "level", "tags", "messages"]
    assert without_nothing(found) == without_nothing(rows[3:])
    selection.save(tmp_path / "selection.parquet")
    assert Selection.load(tmp_path).rethreshold(threshold=-1).to_dataset().num_rows == 6


def test_dataset_of_nothing(chosen):
    assert chosen[0].rethreshold(threshold=9).to_dataset().num_rows == 0


def test_index_that_moved_is_named(chosen, tmp_path):
    selection, _ = chosen
    shutil.copytree(selection.index, tmp_path / "moved")
    lost = replace(selection, index=tmp_path / "lost")
    with pytest.raises(StoreError, match="lost"):
        lost.to_dataset()
    assert lost.to_dataset(tmp_path / "moved").to_dict() == selection.to_dataset().to_dict()
    with pytest.raises(ConfigError, match="which index"):
        replace(selection, index=None).to_dataset()


def test_changed_index_is_refused(chosen, tmp_path, monkeypatch):
    monkeypatch.setattr(Index, "encoder", Hashed())
    selection, _ = chosen
    shutil.copytree(selection.index, tmp_path / "index")
    index = Index(tmp_path / "index").remove(["r0"])
    assert len(index) == 5
    for one in (selection, replace(selection, manifest=None)):
        with pytest.raises(StoreMismatch, match="Select again"):
            one.to_dataset(index)
    assert Selection.of(index, selection.scores[None, 1:], Rule(top=1.0)).to_dataset().num_rows == 5
    assert len(index.add([{"id": "r0", "text": "back"}, {"id": "r1", "text": "there"}])) == 6


def test_index_of_an_earlier_version_says_so(chosen, tmp_path, monkeypatch):
    """It kept texts and metadata, not the columns that they stood in."""
    monkeypatch.setattr(
        "influcoder.indexes.build.shard_columns",
        lambda examples: {"id": [example.id for example in examples], **to_columns(examples)},
    )
    index = Index.build(Hashed(), read_examples(chosen[1]), tmp_path / "index")
    with pytest.raises(StoreMismatch, match=r"not their original columns\. Index the pool again"):
        Selection.of(index, chosen[0].scores[None], Rule(top=0.5)).to_dataset()


def test_rows_that_fit_no_table(tmp_path):
    rows = [{"id": "a", "text": "t", "x": 1}, {"id": "b", "text": "t", "x": "one"}]
    index = Index.build(Hashed(), read_examples(rows), tmp_path / "index")
    with pytest.raises(DataError, match="kept_ids"):
        Selection.of(index, SCORES[None, :2], Rule(top=1.0)).to_dataset()


def test_rows_are_found_again_by_a_rule_that_asks_more_of_them(chosen, tmp_path):
    selection, _ = chosen
    selection.save(tmp_path / "selection.parquet")
    again = Selection.load(tmp_path).rethreshold(rows=3, cap="level=1", distinct=0.9)
    assert again.kept_ids == ["r2", "r3", "r5"]
    table = again.table()
    assert table["meta.level"].to_pylist() == ["0", "1", "2", "3", "", ""]
    assert again.counts()["by"]["level"]["(none)"] == {"kept": 1, "dropped": 1}
    assert "level is at its cap (level=1)" in table["reason"].to_pylist()[4]
    with pytest.raises(ConfigError, match="genre: no row has such a column; the index has level"):
        selection.rethreshold(rows=3, cap="genre=1")
    with pytest.raises(ConfigError, match="which index"):
        replace(selection, index=None).rethreshold(rows=3, distinct=0.8)


def test_rows_that_were_chosen_by_turns_stay_so(tmp_path):
    scores = np.array([[0.9, 0.8, 0.1], [0.9, 0.2, 0.3]], np.float32)
    made = Selection.of_scores(["a", "b", "c"], scores, by="round-robin", rows=2)
    assert made.kept_ids == ["a", "c"]
    made.save(tmp_path / "selection.parquet")
    loaded = Selection.load(tmp_path)
    assert loaded.table().equals(made.table())
    assert loaded.rethreshold(rows=2).kept_ids == ["a", "c"]
    assert loaded.rethreshold(rows=2, unwanted=True).kept_ids == ["b", "c"]


def test_a_selection_of_an_earlier_version_is_read(tmp_path):
    """It had no ranks, and said its rule in words alone."""
    now = selected(top=0.4).table()
    known = orjson.dumps({"index": "somewhere", "manifest": "abc"})
    earlier = now.drop_columns(["rank"]).replace_schema_metadata({"influcoder": known})
    pq.write_table(earlier, tmp_path / "selection.parquet")
    loaded = Selection.load(tmp_path)
    assert (loaded.rule, loaded.manifest) == ("top 0.4 of the rows by score", "abc")
    assert loaded.kept_ids == ["a", "c"]
    assert loaded.rethreshold(drop=0.4).kept_ids == selected(drop=0.4).kept_ids


def test_counts_say_why():
    assert selected(top=0.4).counts() == {
        "rows": 5,
        "kept": 2,
        "rule": "top 0.4 of the rows by score",
        "reasons": {"kept: top 0.4 of the rows by score": 2, "rejected: not top 0.4 of the rows by score": 3},
    }
