"""Selections over HTTP: by rule and by hand, undone, exported, and kept through a restart and a SIGKILL."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import influcoder
from helpers.served import HOSTILE
from influcoder.serve.journal import Journal

ASKED = {"prompt": "What is the capital of France?", "completion": "Paris"}


@pytest.fixture
def made_selection(served):
    """A selection by a rule, and its address."""
    body = {"name": "towards Paris", "questions": [ASKED], "rule": {"top": 0.1}}
    answer = served.post("selections", body)
    assert answer.status_code == 201
    yield answer.json(), f"selections/{answer.json()['id']}"
    served.http.delete(answer.headers["location"])


def lines(answer):
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_rule_selects_as_the_package_does(served, made, made_selection):
    selection, place = made_selection
    expected = influcoder.select(made / "index", [ASKED], top=0.1)
    exported = lines(served.get(f"{place}/export"))
    assert [row["id"] for row in exported] == expected.kept_ids
    table = expected.kept
    assert [row["influcoder_score"] for row in exported] == pytest.approx(table["score"].to_pylist())
    assert [row["influcoder_percentile"] for row in exported] == pytest.approx(table["percentile"].to_pylist())
    assert [row["influcoder_reason"] for row in exported] == table["reason"].to_pylist()
    assert selection["counts"] == {"kept": 6, "rejected": 54, "keep": 0, "drop": 0, "later": 0}


def test_the_replay_command_makes_the_same(served, made, made_selection, call, tmp_path, monkeypatch):
    selection, place = made_selection
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.jsonl").write_bytes(served.get(f"{place}/questions").content)
    words = selection["replay"].split()
    assert words[:2] == ["influcoder", "select"]
    status, _, err = call(*words[1:])
    assert status == 0, err
    kept = influcoder.Selection.load(tmp_path / "selection").kept_ids
    assert kept == [row["id"] for row in lines(served.get(f"{place}/export"))]


def test_marks_come_before_the_rule_and_are_undone(served, made_selection):
    _, place = made_selection
    kept = [row["influcoder_score"] for row in lines(served.get(f"{place}/export"))]
    best = served.post("score", ASKED | {"order": "highest", "limit": 1}).json()["listed"][0]
    worst = served.post("score", ASKED | {"order": "lowest", "limit": 1}).json()["listed"][0]
    served.post(f"{place}/marks", {"mark": "drop", "rows": [best["row"]], "note": "a joke"})
    told = served.post(f"{place}/marks", {"mark": "keep", "rows": [worst["row"]]}).json()
    assert told["counts"] == {"kept": 6, "rejected": 54, "keep": 1, "drop": 1, "later": 0}
    exported = lines(served.get(f"{place}/export"))
    assert {worst["id"]} <= {row["id"] for row in exported}
    assert best["id"] not in {row["id"] for row in exported}
    rejected = {row["id"]: row for row in lines(served.get(f"{place}/export?rows=rejected"))}
    assert rejected[best["id"]]["influcoder_reason"] == "rejected: marked drop by hand"
    assert rejected[best["id"]]["influcoder_note"] == "a joke"
    assert rejected[best["id"]]["influcoder_weight"] == 0
    assert len(exported) + len(rejected) == 60
    for actions in (1, 0):
        assert served.post(f"{place}/undo", {}).json()["actions"] == actions
    assert [row["influcoder_score"] for row in lines(served.get(f"{place}/export"))] == kept
    assert served.post(f"{place}/undo", {}).status_code == 409


def test_all_that_is_filtered_is_marked_at_once(served, made_selection):
    _, place = made_selection
    body = {"mark": "drop", "matching": True, "where": "genre=code", "note": "no code"}
    assert served.post(f"{place}/marks", body).json()["counts"]["drop"] == 30
    everything = lines(served.get(f"{place}/export?rows=all"))
    assert len(everything) == 60
    code = [row for row in everything if row["genre"] == "code"]
    assert {row["influcoder_kept"] for row in code} == {False}
    assert code[3]["influcoder_reason"] == "rejected: marked drop by hand, with all rows of where genre=code"
    least = float(np.median([row["influcoder_score"] for row in everything]))
    body = {"mark": "later", "matching": True, "least": least, "text": "PARIS"}
    told = served.post(f"{place}/marks", body).json()
    marked = served.get(f"{place}/rows", params={"mark": "later", "limit": 60}).json()
    assert marked["matching"] == told["counts"]["later"] > 0
    assert all(row["score"] >= least and row["reason"].endswith("marked later") for row in marked["rows"])


def test_another_rule_is_tried_without_scoring(served, made_selection):
    _, place = made_selection
    told = served.http.put(f"/api/v1/{place}/rule", json={"drop": 0.25}).json()
    assert told["counts"]["kept"] == 45
    everything = lines(served.get(f"{place}/export?rows=all"))
    order = np.argsort([row["influcoder_score"] for row in everything])
    weights = np.array([row["influcoder_weight"] for row in everything])[order]
    assert (np.diff(weights) < 0).all()
    assert (weights[0], weights[-1]) == (1, 0)
    assert served.post(f"{place}/undo", {}).json()["rule"] == {"top": 0.1, "drop": None, "threshold": None}


def test_the_export_has_the_pool_s_own_columns(served, made, made_selection):
    _, place = made_selection
    pool = [json.loads(line) for line in (made / "pool.jsonl").read_text().splitlines()]
    told = lines(served.get(f"{place}/export?rows=all"))
    assert [{name: row[name] for name in pool[0]} for row in told] == pool
    assert told[0]["completion"] == HOSTILE
    answer = served.get(f"{place}/export?rows=all&format=parquet")
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.to_pylist() == told
    made_by = json.loads(table.schema.metadata[b"influcoder"])
    assert made_by["name"] == "towards Paris"
    assert "attachment" in answer.headers["content-disposition"]
    assert served.get(f"{place}/export?format=csv").status_code == 422


def test_a_recipe_makes_the_same_selection_again(served, made_selection):
    _, place = made_selection
    served.post(f"{place}/marks", {"mark": "drop", "matching": True, "where": "genre=code"})
    served.post(f"{place}/marks", {"mark": "keep", "rows": [3, 4], "note": "fine"})
    assert "recipe.json" in served.get(place).json()["replay"]
    again = served.post("selections", served.get(f"{place}/recipe").json()).json()
    assert lines(served.get(f"selections/{again['id']}/export?rows=all")) == lines(
        served.get(f"{place}/export?rows=all")
    )
    assert served.http.delete(f"/api/v1/selections/{again['id']}").status_code == 204
    assert served.get(f"selections/{again['id']}").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"mark": "drop"},
        {"mark": "drop", "rows": [1], "matching": True},
        {"mark": "drop", "rows": [1], "where": "genre=code"},
        {"mark": "burn", "rows": [1]},
        {"mark": "drop", "rows": [60]},
        {"mark": "drop", "rows": [-1]},
        {"mark": "drop", "matching": True, "where": "colour=red"},
    ],
)
def test_marks_that_are_none_are_refused_and_change_nothing(served, made_selection, body):
    _, place = made_selection
    assert served.post(f"{place}/marks", body).status_code in (404, 422)
    assert served.get(place).json()["actions"] == 0


def test_a_write_is_whole_or_not_there(tmp_path):
    journal = Journal(tmp_path)

    def stop_half_way():
        with journal._written():
            journal._db.execute("INSERT INTO question VALUES ('a', 'b', 'c', 'd')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_half_way()
    assert journal.questions() == []
    assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)
    journal.close()


def test_a_state_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(influcoder.InflucoderError, match="--state-dir"):
        Journal(tmp_path / "file")
    (tmp_path / "explorer.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(influcoder.InflucoderError, match="is no database"):
        Journal(tmp_path)
