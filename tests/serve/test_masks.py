"""Loss masks of selections: those of `influcoder select --mask-tokens`, of the rows that are kept."""

import json
import shlex
import time

import pytest

from influcoder.attribution.selection import Selection
from influcoder.attribution.token_mask import COLUMN

ASKED = {"prompt": "What is the capital of France?", "completion": "Paris"}


@pytest.fixture
def selection(served_with_decoder):
    body = {"name": "towards Paris", "questions": [ASKED], "rule": {"top": 0.1}}
    made = served_with_decoder.post("selections", body).json()["id"]
    yield f"selections/{made}"
    served_with_decoder.http.delete(f"/api/v1/selections/{made}")


def exported(served, place, **asked):
    return [json.loads(line) for line in served.get(f"{place}/export", params=asked).text.splitlines()]


def masked(served, place, share):
    """The job's result."""
    answer = served.post(f"{place}/mask", {"share": share})
    assert answer.status_code == 202, answer.text
    end = time.monotonic() + 60
    while (job := served.http.get(answer.headers["location"]).json())["status"] in ("waiting", "running"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert job["status"] == "done", job
    return job["result"]


def test_a_mask_is_that_of_select(served_with_decoder, selection, made, call, tmp_path):
    (tmp_path / "questions.jsonl").write_bytes(served_with_decoder.get(f"{selection}/questions").content)
    words = ["--index", made / "index", "--queries", tmp_path / "questions.jsonl", "--top", "10%"]
    words += ["--mask-tokens", "25%", "--decoder", made / "decoder", "--output-dir", tmp_path / "selection"]
    status, _, err = call("select", *words)
    assert status == 0, err
    expected = [json.loads(line) for line in (tmp_path / "selection/kept.jsonl").read_text().splitlines()]
    assert any(0 in row[COLUMN] for row in expected)
    assert all(COLUMN not in row for row in exported(served_with_decoder, selection))
    result = masked(served_with_decoder, selection, 0.25)
    found = exported(served_with_decoder, selection)
    assert [(row["id"], row[COLUMN]) for row in found] == [(row["id"], row[COLUMN]) for row in expected]
    assert result == {"share": 0.25, "masked": sum(row[COLUMN].count(0) for row in found), "of": result["of"]}
    assert served_with_decoder.get(selection).json()["mask"] == result
    everything = exported(served_with_decoder, selection, rows="all")
    assert all((row[COLUMN] is not None) == row["influcoder_kept"] for row in everything)


def test_the_replay_command_asks_by_the_same_gradients(served_with_decoder, selection, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.jsonl").write_bytes(served_with_decoder.get(f"{selection}/questions").content)
    words = shlex.split(served_with_decoder.get(selection).json()["replay"])
    assert "--decoder" in words
    status, _, err = call(*words[1:])
    assert status == 0, err
    again = Selection.load(tmp_path / "selection").kept
    exported_rows = exported(served_with_decoder, selection)
    assert again["id"].to_pylist() == [row["id"] for row in exported_rows]
    assert again["score"].to_pylist() == pytest.approx([row["influcoder_score"] for row in exported_rows], abs=1e-5)


def test_a_mask_is_of_the_rows_that_it_was_made_of(served_with_decoder, selection):
    result = masked(served_with_decoder, selection, 0.5)
    kept = exported(served_with_decoder, selection, rows="all")
    row = next(number for number, one in enumerate(kept) if one["influcoder_kept"])
    served_with_decoder.post(f"{selection}/marks", {"mark": "drop", "rows": [row]})
    assert served_with_decoder.get(selection).json()["mask"] is None
    assert all(COLUMN not in one for one in exported(served_with_decoder, selection))
    served_with_decoder.post(f"{selection}/undo", {})
    assert served_with_decoder.get(selection).json()["mask"] == result


def test_what_cannot_be_masked(served, served_with_decoder):
    by_hand = served_with_decoder.post("selections", {"name": "by hand"}).json()["id"]
    refused = served_with_decoder.post(f"selections/{by_hand}/mask", {})
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (422, "no_questions")
    none = served_with_decoder.post(
        "selections", {"name": "none", "questions": [ASKED], "rule": {"threshold": 1e9}}
    ).json()["id"]
    assert "keeps 0 rows" in served_with_decoder.post(f"selections/{none}/mask", {}).json()["detail"]
    without = served.post("selections", {"name": "some", "questions": [ASKED], "rule": {"top": 0.1}}).json()["id"]
    assert "--decoder" in served.post(f"selections/{without}/mask", {}).json()["detail"]
