"""`POST /api/v1/search`: the same rows as the package finds, by a service that runs."""

import pytest

import influcoder

ASKED = {"prompt": "What is the capital of France?", "completion": "Paris"}


def test_it_is_alive_and_ready(served):
    assert served.http.get("/healthz").json() == {"status": "alive"}
    assert served.http.get("/readyz").json() == {"status": "ready"}


def test_both_sides_are_those_of_the_package(served, made):
    found = served.post("search", ASKED | {"k": 3}).json()
    for side, opponents in (("proponents", False), ("opponents", True)):
        expected = influcoder.search(made / "index", **ASKED, k=3, opponents=opponents)
        assert [hit["id"] for hit in found[side]] == [hit.example.id for hit in expected]
        assert [hit["score"] for hit in found[side]] == pytest.approx([hit.score for hit in expected])
    assert found["question"] == {"id": "query", **ASKED, "own_answer": False}


def test_a_filter_leaves_other_rows_out(served):
    found = served.post("search", ASKED | {"k": 60, "where": "genre=code,length<20"}).json()
    assert sorted(hit["metadata"]["length"] for hit in found["proponents"]) == list(range(0, 20, 2))


def test_the_decoder_answers_by_itself(served_with_decoder, made):
    found = served_with_decoder.post("search", {"prompt": ASKED["prompt"], "k": 3}).json()
    expected = influcoder.search(made / "index", prompt=ASKED["prompt"], decoder=made / "decoder", k=3)
    assert found["question"]["own_answer"]
    assert found["question"]["completion"] == expected.query.completion
    assert [hit["id"] for hit in found["proponents"]] == [hit.example.id for hit in expected]


def test_the_page_is_there(served):
    page = served.http.get("/")
    assert page.status_code == 200
    assert "60 rows" in page.text
