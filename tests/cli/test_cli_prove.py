"""`influcoder prove` as a user runs it: killed, gone on with, printed in 80 columns."""

import orjson
import pytest

from helpers.commands import refused
from helpers.folders import contents
from helpers.forks import Fork, command
from helpers.processes import kill, wait_for
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder
from helpers.train_commands import train_command
from influcoder import cli
from influcoder.report.proof import SHOWN


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    import influcoder

    folder = tmp_path_factory.mktemp("work")
    save_decoder(folder / "decoder", tokenizer)
    write_jsonl(folder / "queries.jsonl", as_rows(sentences(4, 9, "q")))
    made = influcoder.features(
        folder / "decoder", sentences(12, 1, "tq"), sentences(30, 5, "tp"), folder / "features", rank=4, width=256
    )
    influcoder.index(influcoder.distill(made, folder / "encoder"), sentences(80, 2, "p"), folder / "index")
    return folder


@pytest.fixture
def words(work):
    """The command, with changes to its flags."""

    def command(output_dir, *more, **changes):
        given = {"index": work / "index", "decoder": work / "decoder", "queries": work / "queries.jsonl"}
        given |= {"remove": 20, "seeds": 2, "epochs": 1, "precision": "fp32", "output_dir": output_dir} | changes
        flags = [(f"--{name.replace('_', '-')}", value) for name, value in given.items() if value is not None]
        return ["prove", *(word for flag in flags for word in flag), *more]

    return command


def test_killed_and_gone_on_with(words, tmp_path, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = call(*words(tmp_path / "calm"))
    assert status == 0
    process = Fork(command, *map(str, words(tmp_path / "killed")))
    wait_for(tmp_path / "killed/trainings/all-0.json", 300)
    assert kill(process)
    assert not (tmp_path / "killed/trainings/tfidf-1.json").exists()
    status, _, again = call(*words(tmp_path / "killed", "--resume"))
    assert status == 0
    files = ("config.toml", ".lock")
    assert contents(tmp_path / "killed", but=files) == contents(tmp_path / "calm", but=files)
    assert err.count("8 of 8 trainings to do (all, found, random, tfidf; 2 of each): about ") == 1
    assert "8 of 8 trainings to do" not in again
    assert "trainings to do" in again
    lines = out.splitlines()
    assert max(map(len, lines[: lines.index("")])) <= 80
    table = "\n".join(lines)
    for row in ("on all rows", "without the 20 rows found", "without 20 random rows", "without TF-IDF's 20"):
        assert f"│ {row} " in table
    for line in ("before: ", "without the 20 rows found: ", "without 20 random rows: ", "without TF-IDF's 20: "):
        assert sum(one.startswith(line) for one in lines) == SHOWN


def test_replayed_from_its_config(words, tmp_path, call):
    status, out, _ = call(*words(tmp_path / "a", "--json", seeds=1, controls="tfidf"))
    assert status == 0
    found = orjson.loads(out)
    assert list(found["proof"]) == ["found", "tfidf"]
    status, out, err = call("run", tmp_path / "a/config.toml", "--resume")
    assert status == 0
    assert "All trainings are done." in err


def test_a_training_of_the_users_own(words, work, tmp_path, call):
    own = {"train_command": train_command(tmp_path, work / "decoder"), "precision": None, "epochs": None, "seeds": 1}
    status, out, _ = call(*words(tmp_path / "a", **own))
    assert status == 0
    assert "without the 20 rows found" in out
    refused(call(*words(tmp_path / "b", **own | {"epochs": 3})), "--train-command trains by itself: leave --epochs")


def test_refusals(words, tmp_path, call):
    out = tmp_path / "a"
    refused(call(*words(out, remove=80)), "--remove is 80", "80 rows")
    refused(call(*words(out, controls="tfidf,bm25")), "--controls tfidf,bm25: expected random or tfidf")
    refused(call(*words(out, train_command="train {data}", precision=None, epochs=None)), "lacks {output}")
    refused(call(*words(out, index=tmp_path)), "manifest.json")
    assert not out.exists()


def test_rows_that_are_named(words, tmp_path, call):
    (tmp_path / "ids.txt").write_text("p7\np3\n")
    named = {"remove": None, "rows": tmp_path / "ids.txt", "seeds": 1, "controls": "random"}
    status, out, _ = call(*words(tmp_path / "a", **named))
    assert status == 0
    assert "without the 2 rows named" in out
    status, _, err = call("run", tmp_path / "a/config.toml", "--resume")
    assert status == 0
    assert "All trainings are done." in err
    refused(call(*words(tmp_path, "--overwrite", **named)), "would be lost")


def test_the_input_is_not_overwritten(words, work, call):
    refused(call(*words(work / "index", "--overwrite")), "would be lost")


def test_how_to_resume_is_told(words, tmp_path):
    said = cli.how_to_resume([*map(str, words(tmp_path))])
    assert said.endswith("--resume")
