"""`influcoder.Client`: the package's words, answered by a service."""

import json

import pytest

import influcoder

ASKED = {"prompt": "What is the capital of France?", "completion": "Paris"}


@pytest.fixture
def client(served):
    with influcoder.Client(served.url) as made:
        yield made


def test_it_finds_what_the_package_finds(client, made):
    expected = influcoder.search(made / "index", **ASKED, k=3)
    assert [hit["id"] for hit in client.search(**ASKED, k=3)["proponents"]] == [hit.example.id for hit in expected]
    assert client.score(**ASKED, rows=[0, 1])["rows"][1]["row"] == 1
    assert client.provenance()["rows"] == client.rows(where="length<5")["count"] == 60
    assert [row["row"] for row in client.rows(where="length<5", limit=2, offset=1)["rows"]] == [1, 2]
    assert client.row(3)["id"] == client.row(3, original=True)["id"]


def test_it_re_checks_and_waits(served_with_decoder):
    with influcoder.Client(served_with_decoder.url) as client:
        assert client.question("What is the capital of France?")["own_answer"]
        found = client.verify(**ASKED, k=2, verify=5)
        assert all(hit["exact"] is not None for hit in found["proponents"])
        row = found["proponents"][0]["row"]
        assert client.tokens([row], **ASKED)["rows"][0]["exact"] == pytest.approx(
            found["proponents"][0]["exact"], rel=1e-3
        )


def test_it_selects_marks_and_exports(client, tmp_path):
    made = client.select("by hand", questions=[ASKED], top=0.1)
    assert client.mark(made["id"], "keep", rows=[0, 1])["counts"]["keep"] == 2
    assert client.undo(made["id"])["counts"]["keep"] == 0
    assert made["id"] in [one["id"] for one in client.selections()]
    lines = client.export(made["id"], tmp_path / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[0])["influcoder_kept"]


def test_a_refusal_is_the_service_s_own_sentence(client, tmp_path):
    with pytest.raises(influcoder.InflucoderError, match="the index has genre, length"):
        client.search(**ASKED, where="colour=red")
    with pytest.raises(influcoder.InflucoderError, match="Start the service with"):
        client.verify(**ASKED)
    with pytest.raises(influcoder.InflucoderError, match="no selection 'nobody'"):
        client.export("nobody", tmp_path / "rows.jsonl")


def test_a_service_that_is_not_there_is_told():
    with (
        influcoder.Client("http://127.0.0.1:9") as client,
        pytest.raises(influcoder.InflucoderError, match="Is it run"),
    ):
        client.provenance()
