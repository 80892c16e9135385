"""`influcoder trace` and `features --sample` as a user types them."""

import shlex
from pathlib import Path

import orjson
import pytest

from helpers.commands import refused, without_bars
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_adapter, save_decoder
from influcoder import cli
from influcoder.cli.trace import seconds
from influcoder.data.reading import read_examples
from influcoder.data.sampling import draw
from influcoder.errors import ConfigError
from influcoder.model.decoder import Decoder
from influcoder.student.features_folder import FeaturesFolder

ASKED = ["--query", "What is the capital of France? "]
ANSWERED = [*ASKED, "--completion", "Paris"]


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("trace")
    save_decoder(folder / "decoder", tokenizer)
    write_jsonl(folder / "pool.jsonl", as_rows(sentences(80, 2, "p")))
    write_jsonl(folder / "queries.jsonl", [{"id": "a", "prompt": "Two plus two is "}, *as_rows(sentences(1, 3, "b"))])
    return folder


@pytest.fixture(autouse=True)
def here(work, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setattr("influcoder.verbs.probe.ENOUGH_S", 0.01)


MODEL = ["--decoder", "decoder", "--pool", "pool.jsonl", "--output-dir", "made", "--sample", "40"]


@pytest.fixture
def made(work, call):
    return call("trace", *MODEL, *ANSWERED, "-k", "3")


def test_answer_and_rows_come_first_and_commands_last(made, work):
    status, out, err = made
    assert status == 0, err
    lines = out.splitlines()
    assert "exact" not in out.partition("Go on:")[0]
    assert lines[1:3] == ["Asked: What is the capital of France?", "Answer: Paris"]
    assert lines.index("Rows that push towards it:") < lines.index("Rows that push away from it:")
    assert sum(line.startswith("│ 1 ") for line in lines) == 2
    assert sum("Expected agreement of the encoder's ranking" in line for line in lines) == 1
    assert "This was measured on pool rows in the role of questions: few questions were given." in lines
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("  influcoder ")]
    assert [words[1] for words in commands] == ["search", "select", "prove"]
    assert len(without_bars(err)) <= 5, err


def test_commands_that_go_on_run(made, call):
    lines = [line for line in made[1].splitlines() if line.startswith("  influcoder ")]
    for line, fewer in zip(lines, ([], [], ["--seeds", "1", "--epochs", "1"]), strict=True):
        status, _, err = call(*shlex.split(line, comments=True)[1:], *fewer)
        assert status == 0, err
    call("trace", *MODEL, *ANSWERED, "--overwrite")  # without selection and proof


def test_commands_of_an_adapter_name_its_base_and_run(work, call, tmp_path, tokenizer):
    adapter = save_adapter(tmp_path / "adapter", "llama")
    config = orjson.loads((adapter / "adapter_config.json").read_bytes())
    config["base_model_name_or_path"] = str(work / "decoder")
    (adapter / "adapter_config.json").write_bytes(orjson.dumps(config))
    words = ["--decoder", "decoder", "--adapter", adapter, "--pool", "pool.jsonl", "--output-dir", tmp_path / "made"]
    status, out, err = call("trace", *words, "--sample", "40", *ANSWERED, "-k", "2")
    assert status == 0, err
    for line, fewer in zip(
        [line for line in out.splitlines() if line.startswith("  influcoder ")],
        ([], [], ["--seeds", "1", "--epochs", "1"]),
        strict=True,
    ):
        status, _, err = call(*shlex.split(line, comments=True)[1:], *fewer)
        assert status == 0, err
    assert "if decoder was trained on it" not in out


def test_tokens_and_certificates_of_both_sides(made, call):
    rechecked = ["--verify", "6", "--certify", "30", "--tokens", "-k", "2"]
    status, out, err = call("trace", *MODEL, *ANSWERED, *rechecked, "--json")
    assert status == 0, err
    found = orjson.loads(out)
    for hit in (*found["hits"], *found["against"]):
        assert "".join(piece for piece, _ in hit["tokens"]) == hit["completion"]
        for name in ("tokens", "answer_tokens"):
            assert sum(share for _, share in hit[name]) == pytest.approx(hit["exact"], rel=0.02, abs=1e-3)
    for name in ("certified", "certified_against"):
        assert (found[name]["sampled"], found[name]["others"]) == (30, 74)
    out = " ".join(call("trace", *MODEL, *ANSWERED, *rechecked)[1].split())
    assert out.count("tokens: ") == out.count(" answer: ") == 4
    assert "of the other rows (of 74) score above the 2nd found" in out
    assert "of the other rows (of 74) score below the 2nd found" in out


def test_folder_is_asked_again_by_its_config(made, work, call):
    for resume in ([], ["--resume"]):
        status, out, err = call("run", work / "made" / "config.toml", *resume)
        assert status == 0, err
        assert out.partition("Go on:")[0] == made[1].partition("Go on:")[0]


def test_json_of_one_question_and_of_several(made, call):
    status, out, err = call("trace", *MODEL, *ASKED, "-k", "2", "--verify", "4", "--json")
    assert status == 0, err
    found = orjson.loads(out)
    decoder = Decoder.load("decoder")
    assert found["generated"]
    assert found["answer"] == decoder.answer(read_examples([{"question": ASKED[1], "answer": "?"}])[0], 64)
    assert [set(hit) for hit in found["hits"]] == [{"rank", "id", "score", "exact", "prompt", "completion"}] * 2
    assert found["hits"][0]["exact"] >= found["hits"][1]["exact"]
    assert set(found["expected_agreement"]) == {"rho", "low", "high"}
    assert (found["certified"], found["certified_against"]) == (None, None)
    status, out, err = call("trace", *MODEL, "--queries", "queries.jsonl", "--json")
    assert [(one["id"], one["generated"]) for one in orjson.loads(out)] == [("a", True), ("b0", False)]


def test_own_answer_is_said_to_be_the_models(made, call):
    _, out, _ = call("trace", *MODEL, *ASKED)
    assert "The model's own answer: " in out


def test_refusals(call, tmp_path):
    refused(call("trace", *MODEL), "what is asked?", "--query")
    nothing = ["--decoder", "nowhere", "--pool", "nowhere.jsonl", "--output-dir", tmp_path / "none"]
    refused(call("trace", *nothing, *ASKED, "-k", "5", "--verify", "4"), "verify is 4, expected at least k = 5")
    refused(call("trace", *nothing, *ASKED, "--tokens"), "--tokens", "give --verify N")
    assert not (tmp_path / "none").exists()
    refused(call("trace", *MODEL, *ASKED, "--budget", "soon"), "--budget is 'soon'", "30m")
    (tmp_path / "pool.jsonl").write_bytes(Path("pool.jsonl").read_bytes())
    files = ["--decoder", "decoder", "--pool", tmp_path / "pool.jsonl", "--output-dir", tmp_path, "--overwrite"]
    refused(call("trace", *files, *ASKED), "the output folder is, holds or lies in the input")
    assert (tmp_path / "pool.jsonl").exists()


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_budgets(text, expected):
    assert seconds(text, "--budget") == expected


@pytest.mark.parametrize("text", ["", "m", "10", "0s", "-1m", "infs", "nans"])
def test_budgets_that_are_none(text):
    with pytest.raises(ConfigError, match="--budget is"):
        seconds(text, "--budget")


def test_stopped_call_goes_on_with_the_same_words():
    words = ["trace", *MODEL, *ANSWERED]
    assert cli.how_to_resume(words).endswith(shlex.join(["influcoder", *words]))


def test_features_of_a_sample(work, call, tmp_path):
    small = ["--rank", "4", "--width", "512", "--precision", "fp32", "--seed", "3"]
    files = ["--queries", "pool.jsonl", "--pool", "pool.jsonl", "--output-dir", tmp_path / "features"]
    status, _, err = call("features", "--decoder", "decoder", *files, *small, "--sample", "30")
    assert status == 0, err
    expected = draw(read_examples("pool.jsonl"), 30, seed=3).examples
    assert [one.id for one in FeaturesFolder(tmp_path / "features").sample.pool] == [one.id for one in expected]
