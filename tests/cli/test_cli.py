"""The command line: once from end to end as a user runs it, then what it says and refuses."""

import importlib
import io
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from helpers.commands import refused, run, succeed, without_bars
from helpers.folders import contents
from helpers.forks import Fork, command
from helpers.sentences import WORDS, as_rows, sentences, write_jsonl
from helpers.tiny import save_decoder, tiny_model
from influcoder import __version__, cli
from influcoder.attribution.hits import Hit, Hits
from influcoder.cli.flags import share
from influcoder.cli.output import words_of, write_config
from influcoder.errors import ConfigError, StoreError
from influcoder.report import console as tables
from influcoder.store.output_folder import local

VERBS = sorted(
    [
        "audit",
        "benchmark",
        "demo",
        "distill",
        "drift",
        "env",
        "evaluate",
        "export",
        "features",
        "import",
        "index",
        "plan",
        "prove",
        "report",
        "run",
        "score",
        "search",
        "select",
        "self-check",
        "serve",
        "show",
        "teachers",
        "trace",
    ]
)
HOSTILE = "\x1b[31mred\u202eback\x07\x9b"
SMALL = ["--rank", "4", "--width", "1024", "--precision", "fp32", "--max-length", "96"]


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("work")
    save_decoder(folder / "decoder", tokenizer)
    tiny_model("llama", seed=8).save_pretrained(folder / "other-decoder")
    tokenizer.save_pretrained(folder / "other-decoder")
    write_jsonl(folder / "queries.jsonl", as_rows(sentences(40, 1, "q")))
    pool = [*as_rows(sentences(119, 2, "p")), {"id": "hostile", "prompt": HOSTILE, "completion": HOSTILE}]
    write_jsonl(folder / "pool-1.jsonl", pool[:60])
    pq.write_table(pa.Table.from_pylist(pool[60:]), folder / "pool-2.parquet")
    write_jsonl(folder / "test-queries.jsonl", as_rows(sentences(10, 11, "tq")))
    write_jsonl(folder / "test-pool.jsonl", as_rows(sentences(30, 12, "tp")))
    return folder


@pytest.fixture(scope="module")
def features(work):
    files = ["--queries", "queries.jsonl", "--pool", "pool-1.jsonl", "pool-2.parquet"]
    words = ["--decoder", "decoder", *files, "--output-dir", "features", *SMALL, "--json"]
    return succeed("features", *words, cwd=work)


@pytest.fixture(scope="module")
def distilled(work, features):
    return succeed("distill", "--features", work / "features", "--output-dir", work / "encoder", "--json")


@pytest.fixture(scope="module")
def indexed(work, distilled):
    pool = [work / "pool-1.jsonl", work / "pool-2.parquet"]
    return succeed("index", "--encoder", work / "encoder", "--pool", *pool, "--output-dir", work / "index")


@pytest.fixture(scope="module")
def selected(work, indexed):
    where = ["--index", work / "index", "--queries", work / "queries.jsonl", "--output-dir", work / "selected"]
    return succeed("select", *where, "--top", "10%", "--json")


@pytest.fixture(scope="module")
def evaluated(work, distilled):
    files = ["--queries", work / "test-queries.jsonl", "--pool", work / "test-pool.jsonl"]
    succeed("features", "--decoder", work / "decoder", *files, "--output-dir", work / "test-features", *SMALL)
    where = ["--encoder", work / "encoder", "--features", work / "test-features", "--output-dir", work / "evaluated"]
    extra = ["--decoder", work / "decoder", "--train-features", work / "features"]
    return succeed("evaluate", *where, *extra, "--json")


def test_features(work, features):
    found = orjson.loads(features.stdout)
    assert (found["queries"], found["pool"]) == (40, 120)
    assert found["teacher"]["teacher"]["settings"]["width"] == 1024
    assert orjson.loads((work / "features" / "metrics.json").read_bytes()) == found


def test_distill(work, distilled):
    found = orjson.loads(distilled.stdout)
    assert found["tier"] == "static"
    assert "per_query_spearman" in found["validation"]
    assert (work / "encoder" / "README.md").exists()


def test_index_prints_its_numbers(work, indexed):
    assert "rows: 120" in indexed.stdout
    assert f"written to {work / 'index'}" in indexed.stdout
    assert "error" not in indexed.stderr


def test_search_as_text(work, indexed):
    asked = ["--prompt", "the capital of France ", "--completion", "Paris"]
    done = succeed("search", "--index", work / "index", *asked, "-k", 4)
    assert done.stdout.startswith("\nRows that push towards: Paris\nasked: the capital of France\n")
    assert [line.split("│")[1].strip() for line in done.stdout.splitlines() if re.match(r"│ +\d", line)] == list("1234")


def test_search_as_json_verified_and_opponents(work, indexed):
    where = ["--index", work / "index", "--queries", work / "queries.jsonl", "-k", 3, "--json"]
    done = succeed("search", *where, "--opponents", "--verify", 5, "--decoder", work / "decoder")
    found = orjson.loads(done.stdout)
    assert [query["id"] for query in found] == [f"q{n}" for n in range(40)]
    for query in found:
        told = {"id", "prompt", "completion", "answer", "hits", "expected_agreement", "certified", "memorised"}
        assert set(query) == told
        assert (query["answer"], query["certified"]) == (None, None)
        assert set(query["expected_agreement"]) == {"rho", "low", "high"}
        assert [hit["rank"] for hit in query["hits"]] == [1, 2, 3]
        exact = [hit["exact"] for hit in query["hits"]]
        assert exact == sorted(exact)


def test_select(work, selected):
    found, rule = orjson.loads(selected.stdout), "top 0.1 of the rows by score"
    reasons = {f"kept: {rule}": 12, f"rejected: not {rule}": 108}
    assert found == {"rows": 120, "kept": 12, "rule": rule, "reasons": reasons}
    assert sum(pq.read_table(work / "selected" / "selection.parquet")["kept"].to_pylist()) == 12


def test_evaluate(work, evaluated):
    found = orjson.loads(evaluated.stdout)
    assert {"influcoder", "influcoder-exact-query", "exact", "surface", "tfidf"} <= set(found["methods"])
    assert found["splits"]["overlap"] == 0
    assert (work / "evaluated" / "report.html").exists()


def test_report_prints_its_path(work, evaluated, call):
    (work / "evaluated" / "report.html").unlink()
    status, out, _ = call("report", work / "evaluated")
    assert (status, out) == (0, f"{work / 'evaluated' / 'report.html'}\n")
    assert (work / "evaluated" / "report.html").exists()


def test_evaluation_as_text(work, evaluated, call):
    where = ["--encoder", work / "encoder", "--features", work / "test-features"]
    status, out, _ = call("evaluate", *where, "--output-dir", work / "as-text")
    assert status == 0
    assert "Agreement with the exact teacher" in out
    assert "not run: exact (give --decoder)" in out


def test_distill_learns_from_files_without_features(work, distilled, call, tmp_path, monkeypatch):
    monkeypatch.chdir(work)
    flags = ["--features", work / "features", "--decoder", work / "decoder", "--json"]
    more = ["--unlabelled", "test-pool.jsonl", "--unlabelled-queries", "test-queries.jsonl"]
    status, out, err = call("distill", *flags, *more, "--output-dir", tmp_path / "e")
    assert status == 0, err
    splits = orjson.loads(out)["splits"]
    assert (splits["pseudo_queries"], splits["pseudo_pool"]) == (10, 30)
    assert str(work / "test-pool.jsonl") in (tmp_path / "e" / "config.toml").read_text()
    refused(call("distill", *flags, "--output-dir", tmp_path / "f"), "give --decoder with one of them")
    refused(call("distill", *flags[:2], *more, "--output-dir", tmp_path / "f"), "give --decoder with one of them")


def test_training_data_is_refused(work, distilled, call):
    where = ["--encoder", work / "encoder", "--features", work / "features", "--output-dir", work / "leak"]
    refused(call("evaluate", *where), "seen in training or model selection")


def test_terminal_escapes_are_made_visible(work, indexed, call):
    status, out, _ = call("search", "--index", work / "index", "--prompt", HOSTILE, "--completion", "x", "-k", 120)
    assert status == 0
    assert not set(out) & set("\x1b\u202e\x07\x9b")
    assert "⟨U+202E⟩" in re.sub(r"[│\s]", "", out)


def test_escapes_in_json_are_escaped(work, indexed, call):
    _, out, _ = call("search", "--index", work / "index", "--prompt", "a", "--completion", "b", "-k", 120, "--json")
    assert not set(out) & set("\x1b\x07")
    assert HOSTILE in [hit["completion"] for hit in orjson.loads(out)[0]["hits"]]


def test_error_of_the_program_itself(work, distilled):
    words = ["--encoder", work / "encoder", "--pool", work / "nowhere.jsonl", "--output-dir", work / "never"]
    done = run("index", *words)
    refused((done.returncode, done.stdout, done.stderr), "nowhere.jsonl")
    assert not (work / "never").exists()


def test_escapes_in_an_error_are_made_visible(work, distilled, call):
    words = ["--encoder", work / "encoder", "--pool", f"{HOSTILE}.jsonl", "--output-dir", work / "never"]
    status, _, err = call("index", *words)
    assert status == 1
    assert not set(err) & set("\x1b\u202e\x07\x9b")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["distill", "--features", "nowhere", "--output-dir", "new"], "nowhere"),
        (["index", "--encoder", "nowhere", "--pool", "pool-1.jsonl", "--output-dir", "new"], "influcoder.json"),
        (["index", "--encoder", "encoder", "--pool", "pool-1.jsonl", "--output-dir", "index"], "not empty"),
        (["distill", "--features", "features", "--output-dir", "encoder"], "not empty"),
        (["search", "--index", "nowhere", "--prompt", "a", "--completion", "b"], "nowhere"),
        (["search", "--index", "index"], "--query is missing. Give what the model was asked"),
        (["search", "--index", "index", "--query", "a"], "--completion is missing. Give what"),
        (["search", "--index", "index", "--prompt", "a", "--completion", " "], "--completion is missing"),
        (["search", "--index", "index", "--prompt", "a", "--completion", "b", "-k", "0"], "k is 0"),
        (["search", "--index", "index", "--prompt", "a", "--completion", "b", "--verify", "20"], "--decoder"),
        (["search", "--index", "index", "--queries", "nowhere.jsonl"], "nowhere.jsonl"),
        (["search", "--index", "index", "--queries", "queries.jsonl", "--prompt", "a"], "--queries was given with"),
        (["search", "--index", "index", "--queries", "queries.jsonl", "--completion", "a"], "--queries was given with"),
        (["report", "a\n\tb"], "a b/metrics.json"),
        (["select", "--index", "index", "--queries", "queries.jsonl", "--output-dir", "new"], "exactly one"),
        (["report", "nowhere"], "metrics.json"),
        (["distill", "--features", "features", "--output-dir", "new", "--recipe", "paper", "--encoder", "no"], "no:"),
        (["run", "nowhere.toml"], "nowhere.toml"),
        (["run", "queries.jsonl"], "queries.jsonl"),
        (["features", "--decoder", "nowhere", "--queries", "queries.jsonl", "--pool", "pool-1.jsonl"], "nowhere"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else value,
)
def test_errors_are_one_line(work, indexed, call, monkeypatch, tmp_path, words, told):
    monkeypatch.chdir(work)
    words = [*words, "--output-dir", "new"] if words[0] == "features" else words
    refused(call(*(tmp_path / "new" if word == "new" else word for word in words)), told)
    assert not (tmp_path / "new" / "metrics.json").exists()


@pytest.mark.parametrize("seed", ["-1", "9" * 30])
@pytest.mark.parametrize("verb", ["features", "distill", "evaluate", "demo"])
def test_seed_out_of_range(work, distilled, evaluated, call, monkeypatch, tmp_path, verb, seed):
    monkeypatch.chdir(work)
    needed = {
        "features": ["--decoder", "decoder", "--queries", "queries.jsonl", "--pool", "pool-1.jsonl", *SMALL],
        "distill": ["--features", "features"],
        "evaluate": ["--encoder", "encoder", "--features", "test-features"],
        "demo": [],
    }
    refused(call(verb, *needed[verb], "--output-dir", tmp_path / "out", f"--seed={seed}"), "--seed is", "expected 0 to")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("verb", "folder"), [("distill", "features"), ("index", "encoder"), ("select", "index"), ("evaluate", "encoder")]
)
def test_output_onto_its_own_input_is_refused(work, indexed, evaluated, call, tmp_path, monkeypatch, verb, folder):
    """Overwriting empties the folder: what is still to be read from it would be lost."""
    shutil.copytree(work / folder, tmp_path / folder)
    before = contents(tmp_path / folder)
    monkeypatch.chdir(work)
    needed = {
        "distill": ["--features", tmp_path / folder],
        "index": ["--encoder", tmp_path / folder, "--pool", "pool-1.jsonl"],
        "select": ["--index", tmp_path / folder, "--queries", "queries.jsonl", "--top", "10%"],
        "evaluate": ["--encoder", tmp_path / folder, "--features", "test-features"],
    }
    refused(call(verb, *needed[verb], "--output-dir", tmp_path / folder, "--overwrite"))
    assert contents(tmp_path / folder) == before


@pytest.mark.parametrize("pool", ["rows/*.jsonl", "rows", "rows/pool.jsonl"])
@pytest.mark.parametrize("output", ["rows", "rows/out", "."])
def test_output_over_its_own_files_is_refused(work, indexed, call, tmp_path, monkeypatch, pool, output):
    (tmp_path / "rows" / "out").mkdir(parents=True)
    shutil.copy(work / "pool-1.jsonl", tmp_path / "rows" / "pool.jsonl")
    monkeypatch.chdir(tmp_path)
    words = ["--encoder", work / "encoder", "--pool", pool, "--output-dir", output, "--overwrite", "--json"]
    result = call("index", *words)
    if output == "rows/out" and pool != "rows":  # beside the files that are read
        assert result[0] == 0
    else:
        refused(result, "is, holds or lies in the input")
    assert (tmp_path / "rows" / "pool.jsonl").read_bytes() == (work / "pool-1.jsonl").read_bytes()


@pytest.mark.parametrize("text", ["0", "0%", "150%", "-5%", "much", "nan", "5%%", "", "inf"])
@pytest.mark.parametrize("flag", ["--top", "--drop"])
def test_wrong_shares(work, indexed, call, tmp_path, flag, text):
    where = ["--index", work / "index", "--queries", work / "queries.jsonl", "--output-dir", tmp_path / "new"]
    refused(call("select", *where, f"{flag}={text}"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("text", "number"), [("5%", 0.05), ("0.05", 0.05), ("100%", 1.0), ("12.5%", 0.125), ("1", 1)])
def test_shares(text, number):
    assert share(text, "--top") == pytest.approx(number)
    assert share(None, "--top") is None


def test_word_that_is_no_share():
    with pytest.raises(ConfigError, match=r"--top is 'much', expected a share such as 5% or 0\.05"):
        share("much", "--top")


def test_verification_by_another_decoder_is_refused(work, indexed, call):
    asked = ["--prompt", "a", "--completion", "b", "--verify", 20, "--decoder", work / "other-decoder"]
    refused(call("search", "--index", work / "index", *asked), "distilled from a decoder with decoder")


def test_debug_shows_where_an_error_came_from(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["influcoder", "--debug", "report", str(tmp_path)])
    with pytest.raises(StoreError):
        cli.main()


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["search"],
        ["search", "--index"],
        ["search", "--index", "x", "-k", "many"],
        ["distill", "--features", "x", "--output-dir", "y", "--recipe", "magic"],
        ["select", "--index", "x", "--queries", "y", "--output-dir", "z", "--threshold", "high"],
        ["index", "--no-such-flag"],
        ["report", "one", "two"],
    ],
)
def test_usage_errors(call, words):
    status, out, err = call(*words)
    assert status == 2
    assert "Traceback" not in out + err
    assert "Error" in out + err


def test_usage_errors_leave_stdout_to_data(call):
    _, out, err = call("nonsense")
    assert out == ""
    assert "nonsense" in err


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help(call, verb):
    status, out, err = call(*([verb] if verb else []), "--help")
    assert status == 0
    assert err == ""
    assert "Usage: influcoder" in out
    assert f"influcoder {verb}" in out or verb is None


def test_every_verb_is_known_to_these_tests():
    assert sorted(name for name in cli.app if not name.startswith("-")) == VERBS


@pytest.mark.parametrize("place", cli.VERBS.values())
def test_the_list_says_of_a_verb_what_its_own_page_says(place):
    file, name = place.split(":")
    verb = getattr(importlib.import_module(f"influcoder.cli.{file}"), name)
    assert cli._summary(place) == " ".join(verb.__doc__.split("\n\n")[0].split())
    assert "Args:" in verb.__doc__ or name in ("env", "teachers")  # its own page says more


def test_the_list_of_verbs_imports_none_of_them():
    code = """
import sys
from influcoder import cli
try:
    cli._run(["--help"])
finally:
    print([name for name in sys.modules if name.startswith("influcoder.cli.")])
"""
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Ask why a model says something" in listed
    assert listed.splitlines()[-1] == "[]"


def commands(app):
    for name in (name for name in app if not name.startswith("-")):
        yield from [app[name]] if app[name].default_command else commands(app[name])


def test_every_verb_that_loads_a_decoder_can_be_told_to_run_its_code():
    flags = [{name for one in verb.assemble_argument_collection() for name in one.names} for verb in commands(cli.app)]
    loading = [names for names in flags if "--decoder" in names]
    assert len(loading) > 15
    assert all("--trust-remote-code" in names for names in loading)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("benchmark", "plan")])
def test_every_flag_is_explained(verb):
    arguments = cli.app[verb].assemble_argument_collection(parse_docstring=True)
    assert [one.name for one in arguments if one.show and not one.parameter.help] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["features", "--decoder", "d", "--queries", "a b", "--pool", "p", "--output-dir", "o", "--overwrite"],
            "Resume with: influcoder features --decoder d --queries 'a b' --pool p --output-dir o --resume",
        ),
        (["run", "config.toml", "--resume"], "Resume with: influcoder run config.toml --resume"),
        (["benchmark", "causal", "--resume"], "with: influcoder benchmark causal --resume"),
        (["distill", "--features", "f"], "Start again with: influcoder distill --features f --overwrite"),
        (["teachers"], "Run the same command again."),
        ([], "Run the same command again."),
    ],
)
def test_stopped_run_tells_how_to_resume(words, told):
    assert cli.how_to_resume(words).endswith(told)


@pytest.mark.parametrize(("given", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_told_otherwise(call, monkeypatch, given, used):
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert call("--version")[0] == 0
    assert os.environ["OMP_WAIT_POLICY"] == used


def test_version(call):
    assert call("--version")[:2] == (0, f"{__version__}\n")


def test_module_runs_as_well():
    done = subprocess.run([sys.executable, "-m", "influcoder", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


def test_env_names_versions(call):
    status, out, _ = call("env")
    assert status == 0
    assert f"influcoder {__version__}" in out
    assert "torch" in out


@pytest.mark.parametrize("verb", ["features", "distill", "index", "selected"])
def test_folder_tells_how_it_was_made(work, selected, verb):
    folder = {"distill": "encoder"}.get(verb, verb)
    config = tomllib.loads((work / folder / "config.toml").read_text(encoding="utf-8"))
    assert config["verb"] == {"selected": "select"}.get(verb, verb)
    assert config["output_dir"] == str(work / folder)
    assert not {"json", "overwrite", "resume"} & set(config)


def replay(work, folder, where, monkeypatch, call):
    """Runs a folder's config again from elsewhere, the folder itself set aside."""
    before, kept = work / folder, where / "before"
    shutil.copytree(before, kept)
    shutil.rmtree(before)
    monkeypatch.chdir(where)
    try:
        status, _, err = call("run", kept / "config.toml")
        assert status == 0, err
        assert contents(before) == contents(kept)
    finally:
        shutil.copytree(kept, before, dirs_exist_ok=True)


def test_features_are_replayed(work, features, tmp_path, monkeypatch, call):
    """They were run with relative paths in another folder."""
    replay(work, "features", tmp_path, monkeypatch, call)


def test_distillation_is_replayed(work, distilled, tmp_path, monkeypatch, call):
    replay(work, "encoder", tmp_path, monkeypatch, call)


def test_selection_is_replayed(work, selected, tmp_path, monkeypatch, call):
    replay(work, "selected", tmp_path, monkeypatch, call)


@pytest.mark.parametrize("here", ["plain", "with [brackets]"])
def test_config_keeps_where_local_inputs_are(tmp_path, monkeypatch, here):
    """A hub id or a value that happens to be named as a file is left alone."""
    (tmp_path / here / "decoder").mkdir(parents=True)
    for name in ("a.jsonl", "b.jsonl", "auto"):
        (tmp_path / here / name).write_text("")
    monkeypatch.chdir(tmp_path / here)
    given = {"decoder": "decoder", "encoder": "org/model", "queries": ["a.jsonl", "*.jsonl"], "precision": "auto"}
    write_config(tmp_path, "features", given | {"index": Path("nowhere")})
    config = tomllib.loads((tmp_path / "config.toml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    assert config["decoder"] == str(tmp_path / here / "decoder")
    assert (config["encoder"], config["precision"]) == ("org/model", "auto")
    assert config["index"] == str(tmp_path / here / "nowhere")
    assert config["queries"][0] == str(tmp_path / here / "a.jsonl")
    assert len(local(config["queries"][1])) == 2


def test_replay_in_place(work, selected, call):
    folder = work / "selected"
    before = contents(folder)
    refused(call("run", folder / "config.toml"), "not empty")
    assert call("run", folder / "config.toml", "--overwrite")[0] == 0
    assert contents(folder) == before


def test_replay_resumes(work, features, call):
    before = contents(work / "features")
    assert call("run", work / "features" / "config.toml", "--resume")[0] == 0
    assert contents(work / "features") == before


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_reader_that_has_read_enough(work, indexed, form):
    words = ["search", "--index", work / "index", "--queries", work / "queries.jsonl", "-k", 100, *form]
    with Fork(command, *map(str, words)) as program:
        program.stdout.readline()
        program.stdout.close()
        assert without_bars(program.stderr.read()) == []
    assert program.returncode == 0


def test_negative_threshold_is_replayed(work, indexed, tmp_path, monkeypatch, call):
    where = ["--index", work / "index", "--queries", work / "queries.jsonl", "--output-dir", tmp_path / "out"]
    assert call("select", *where, "--threshold", "-0.001")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    replay(tmp_path, "out", tmp_path / "elsewhere", monkeypatch, call)


def test_words_of_a_config():
    config = {"verb": "index", "pool": ["a", "b c"], "output_dir": "x", "flag": True, "other": False, "seed": 3}
    assert words_of(config) == ["index", "--pool", "a", "b c", "--output-dir", "x", "--flag", "--seed", "3"]


def test_overwrite_replaces(work, indexed, tmp_path, call):
    (tmp_path / "stale").write_text("old")
    where = ["--encoder", work / "encoder", "--pool", work / "pool-1.jsonl", "--output-dir", tmp_path]
    assert call("index", *where, "--overwrite", "--json")[0] == 0
    assert not (tmp_path / "stale").exists()
    status, out, _ = call("index", *where, "--resume", "--json")
    assert (status, orjson.loads(out)["rows"]) == (0, 60)


def test_skipped_rows_are_kept_beside_the_folder(work, indexed, tmp_path, call):
    rows = [*as_rows(sentences(9, 3, "r")), {"id": "bad", "prompt": "p", "completion": ""}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    where = ["--encoder", work / "encoder", "--pool", tmp_path / "rows.jsonl", "--output-dir", tmp_path / "out"]
    refused(call("index", *where), "rows.jsonl:10")
    status, out, _ = call("index", *where, "--on-error", "skip", "--max-reject-rate", "0.2", "--json")
    assert (status, orjson.loads(out)["rows"]) == (0, 9)
    assert b"empty_completion" in (tmp_path / "out-rejects-pool.jsonl").read_bytes()


def printed(monkeypatch, show, *arguments):
    stream = io.StringIO()
    monkeypatch.setattr(tables, "Console", lambda: Console(file=stream, width=150))
    show(*arguments)
    return stream.getvalue()


def test_rows_are_printed_harmlessly(monkeypatch):
    example = sentences(1, 0, "a")[0]
    hostile = type(example)("h", f"[red]{HOSTILE}[/red]", "[/nonsense] [link=x]" + WORDS[0])
    hit = Hit(1, 0, 0.25, -0.5, hostile)
    out = printed(monkeypatch, tables.print_hits, [hostile], [Hits([hit])], True)
    assert "Rows that push away from" in out
    assert "[/nonsense] [link=x]" in out  # rich's markup is text here
    assert "+0.250" in out
    assert "-0.500" in out
    assert not set(out) & set("\x1b\u202e\x07\x9b")


def test_long_texts_are_cut(monkeypatch):
    example = sentences(1, 0, "a")[0]
    long = type(example)("h", "word " * 100, "y" * 500)
    out = printed(monkeypatch, tables.print_hits, [long], [Hits([Hit(1, 0, 0.25, None, long)])], False)
    assert "..." in out
    assert "y" * 101 not in out


def test_hits_as_json_hold_whole_texts():
    example = sentences(1, 0, "a")[0]
    found = tables.hits_as_json([example], [Hits([Hit(1, 7, 0.25, None, example)], (0.5, 0.25, 0.75))])
    assert found[0]["expected_agreement"] == {"rho": 0.5, "low": 0.25, "high": 0.75}
    assert found[0]["hits"] == [
        {
            "rank": 1,
            "id": example.id,
            "score": 0.25,
            "exact": None,
            "prompt": example.prompt,
            "completion": example.completion,
        }
    ]


def test_index_is_changed_and_scored_by_command(work, indexed, tmp_path, call):
    folder = tmp_path / "index"
    shutil.copytree(work / "index", folder)
    write_jsonl(tmp_path / "more.jsonl", [{"id": "new", "prompt": "p", "completion": "c", "genre": "new"}])
    status, out, err = call("index", "--add", tmp_path / "more.jsonl", "--output-dir", folder, "--json")
    assert status == 0, err
    assert orjson.loads(out) == {"rows": 121, "added": 1, "already_there": 0}
    (tmp_path / "ids.txt").write_text("p0\np1\n")
    status, out, _ = call("index", "--remove", tmp_path / "ids.txt", "hostile", "--output-dir", folder, "--json")
    assert (status, orjson.loads(out)) == (0, {"rows": 118, "removed": 3, "not_there": 0})
    asked = ["--index", folder, "--prompt", "a", "--completion", "b", "--json"]
    status, out, _ = call("search", *asked, "--where", "genre=new", "--verify-hashes")
    assert [hit["id"] for hit in orjson.loads(out)[0]["hits"]] == ["new"]
    where = ["--index", folder, "--queries", work / "queries.jsonl", "--output-dir", tmp_path / "scores"]
    assert call("score", *where)[0] == 0
    assert pq.read_metadata(tmp_path / "scores" / "scores.parquet").num_rows == 118
    assert (folder / "config.toml").read_bytes() == (work / "index" / "config.toml").read_bytes()
    refused(call("search", *asked, "--where", "colour=red"), "the index has genre")
    refused(call("search", *asked, "--where", "genre=new", "--approximate"), "leave --approximate out")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--add", "x.jsonl", "--pool", "y.jsonl"], "Leave --refresh, --encoder, --pool"),
        (["--remove", "x", "--overwrite"], "Leave --refresh, --encoder, --pool"),
        ([], "Give --encoder and --pool"),
        (["--add", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--pool", "hf://datasets/a/b", "--encoder", "encoder"], "HF_HUB_OFFLINE"),
    ],
)
def test_index_commands_that_cannot_be(work, indexed, call, monkeypatch, words, told):
    monkeypatch.chdir(work)
    output = "index" if {"--add", "--remove"} & set(words) else "never"
    refused(call("index", *words, "--output-dir", output), told)


def test_index_in_shards_is_the_same_as_in_one(work, indexed, tmp_path, call):
    files = ["--encoder", work / "encoder", "--pool", work / "pool-1.jsonl", work / "pool-2.parquet"]
    for shard in ("2/2", "1/2"):
        status, _, err = call("index", *files, "--output-dir", tmp_path / "shared", "--shard", shard)
        assert status == 0, err
    for name in ("manifest.json", "shard-00000.safetensors", "shard-00000.parquet", "index.faiss"):
        assert (tmp_path / "shared" / name).read_bytes() == (work / "index" / name).read_bytes()
