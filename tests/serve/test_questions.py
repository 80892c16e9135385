"""Questions over HTTP: the same rows, scores, tokens and re-checks as the package gives, by services that run."""

import json

import numpy as np
import pytest

import influcoder

ASKED = {"prompt": "What is the capital of France?", "completion": "Paris"}


@pytest.fixture(scope="module")
def decoder(made):
    return influcoder.Decoder.load(
        made / "decoder", max_length=influcoder.Index(made / "index").encoder.provenance.decoder.max_length
    )


def test_it_is_alive_and_ready(served):
    assert served.http.get("/healthz").json() == {"status": "alive"}
    assert served.http.get("/readyz").json() == {"status": "ready"}


def test_both_sides_are_those_of_the_package(served, made):
    found = served.post("search", ASKED | {"k": 3}).json()
    for side, opponents in (("proponents", False), ("opponents", True)):
        expected = influcoder.search(made / "index", **ASKED, k=3, opponents=opponents)
        assert [hit["id"] for hit in found[side]] == [hit.example.id for hit in expected]
        assert [hit["score"] for hit in found[side]] == pytest.approx([hit.score for hit in expected])
    assert found["question"] == {"id": "query", **ASKED, "own_answer": False, "read": None}


def test_a_filter_leaves_other_rows_out(served):
    found = served.post("search", ASKED | {"k": 60, "where": "genre=code,length<20"}).json()
    assert sorted(hit["metadata"]["length"] for hit in found["proponents"]) == list(range(0, 20, 2))


def test_scores_are_those_of_the_package(served, made):
    table = influcoder.score(made / "index", [ASKED | {"id": "q"}])
    scores = table["score:q"].to_numpy()
    order = np.argsort(-scores, kind="stable")
    found = served.post(
        "score", ASKED | {"rows": [3, int(order[0])], "order": "highest", "limit": 4, "offset": 1}
    ).json()
    assert found["count"] == found["matching"] == 60
    assert sum(found["histogram"]["counts"]) == 60
    assert [one["row"] for one in found["listed"]] == order[1:5].tolist()
    assert [one["id"] for one in found["listed"]] == table["id"].take(order[1:5]).to_pylist()
    assert [one["score"] for one in found["rows"]] == pytest.approx([scores[3], scores[order[0]]])
    assert found["rows"][1]["percentile"] == 100
    middle = float(np.median(scores))
    found = served.post("score", ASKED | {"order": "lowest", "least": middle, "where": "genre=code"}).json()
    assert found["matching"] == np.sum(scores[::2] >= middle)


def test_the_decoder_answers_by_itself(served_with_decoder, made, decoder):
    found = served_with_decoder.post("search", {"prompt": ASKED["prompt"], "k": 3}).json()
    expected = influcoder.search(made / "index", prompt=ASKED["prompt"], decoder=decoder, k=3)
    assert found["question"]["own_answer"]
    assert found["question"]["completion"] == expected.query.completion
    assert [hit["id"] for hit in found["proponents"]] == [hit.example.id for hit in expected]


def test_what_the_decoder_reads_is_told(served_with_decoder):
    read = served_with_decoder.post("question", ASKED).json()["read"]
    assert "".join(part["text"] for part in read["parts"]).startswith(ASKED["prompt"])
    attributed = "".join(part["text"] for part in read["parts"] if part["loss"])
    assert "Paris" in attributed
    assert ASKED["prompt"] not in attributed


def test_a_job_re_checks_as_the_package_does(served_with_decoder, made, decoder):
    started = served_with_decoder.post("verify", ASKED | {"k": 3, "verify": 20, "certify": 10, "tokens": True})
    assert started.status_code == 202
    kinds, steps = [], []
    with served_with_decoder.http.stream("GET", started.headers["location"] + "/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kinds.append(line[7:])
            elif line.startswith("data: "):
                steps.append(json.loads(line[6:]))
    assert kinds[-1] == "done"
    assert set(kinds[:-1]) <= {"progress"}
    job = served_with_decoder.http.get(started.headers["location"]).json()
    assert job == steps[-1]
    assert job["done"] == job["total"] > 40
    for side, opponents in (("proponents", False), ("opponents", True)):
        expected = influcoder.search(
            made / "index", **ASKED, decoder=decoder, k=3, verify=20, certify=10, tokens=True, opponents=opponents
        )
        found = job["result"][side]
        assert [hit["id"] for hit in found] == [hit.example.id for hit in expected]
        assert [hit["exact"] for hit in found] == pytest.approx([hit.exact for hit in expected], rel=1e-4)
        assert [text for text, _ in found[0]["tokens"]] == [text for text, _ in expected[0].tokens]
        bound = job["result"]["certified" if side == "proponents" else "certified_opponents"]
        assert (bound["sampled"], bound["others"]) == (10, 40)


def test_tokens_add_up_to_the_influence(served_with_decoder):
    found = served_with_decoder.post("tokens", ASKED | {"rows": [5, 9]}).json()["rows"]
    assert [one["row"] for one in found] == [5, 9]
    for one in found:
        assert sum(share for _, share in one["tokens"]) == pytest.approx(one["exact"], rel=1e-3, abs=1e-6)
        assert sum(share for _, share in one["answer_tokens"]) == pytest.approx(one["exact"], rel=1e-3, abs=1e-6)


def test_a_job_is_stopped(served_with_decoder):
    job = served_with_decoder.post("verify", ASKED | {"verify": 30, "certify": 30}).json()
    served_with_decoder.http.delete(f"/api/v1/jobs/{job['id']}")
    with served_with_decoder.http.stream("GET", f"/api/v1/jobs/{job['id']}/events") as stream:
        told = "".join(stream.iter_text())
    assert "event: cancelled" in told
    listed = {one["id"]: one["status"] for one in served_with_decoder.get("jobs").json()}
    assert listed[job["id"]] == "cancelled"


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("search", {"prompt": "What?"}, "no_completion"),
        ("verify", ASKED, "no_decoder"),
        ("tokens", ASKED | {"rows": [0]}, "no_decoder"),
        ("search", ASKED | {"where": "colour=red"}, "ConfigError"),
        ("search", ASKED | {"where": "genre"}, "ConfigError"),
        ("search", {"prompt": "What?", "completion": "  "}, "no_completion"),
        ("search", {"query": "nobody"}, "not_found"),
        ("score", ASKED | {"rows": [60]}, "not_found"),
        ("search", ASKED | {"k": 0}, "invalid_request"),
        ("search", {"completion": "Paris"}, "invalid_request"),
    ],
)
def test_errors_are_problems_with_remedies(served, path, body, kind):
    answer = served.post(path, body)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:influcoder:problem:{kind}"
    assert problem["status"] == answer.status_code
    assert 400 <= answer.status_code < 500
    assert len(problem["detail"]) > 20


def test_a_filter_s_error_is_that_of_the_command_line(served):
    detail = served.post("search", ASKED | {"where": "colour=red"}).json()["detail"]
    assert detail == "--where colour: no row has such a column; the index has genre, length."
