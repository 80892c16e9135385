"""`influcoder benchmark causal`: killed and resumed, replayed, refused; and the parts it is made of."""

import time
import tomllib

import numpy as np
import orjson
import pytest

from helpers.commands import refused
from helpers.forks import Fork, command
from helpers.processes import kill
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import FAMILIES, save_decoder, tiny_decoder
from influcoder import cli
from influcoder.benchmarks.corpora.facts_problem import facts_problem
from influcoder.benchmarks.corpora.problem import Problem, Split
from influcoder.benchmarks.methods.registry import METHODS, MODEL_METHODS
from influcoder.benchmarks.methods.rivals import first_layers
from influcoder.benchmarks.results.tables import causal_table, causal_tables
from influcoder.benchmarks.run import TASKS
from influcoder.benchmarks.settings import CausalSettings
from influcoder.benchmarks.tasks.causal import Causal
from influcoder.errors import ConfigError, ModelError
from influcoder.evaluation.evaluate import count_overlap
from influcoder.teachers.settings import TEACHERS

BASELINES = {"tfidf", "bm25", "length", "row-loss", "random", "proxy", "randomised"}
LEARNERS = {name for name in MODEL_METHODS if "training" in METHODS[name].needs}
QUICK = ["--decoder", "decoder", "--pool", "pool.jsonl", "--queries", "queries.jsonl", "--max-length", "96", "--quick"]


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("benchmark")
    write_jsonl(folder / "pool.jsonl", as_rows(sentences(12, 2, "p")))
    write_jsonl(folder / "queries.jsonl", as_rows(sentences(5, 1, "q")))
    write_jsonl(folder / "others.jsonl", as_rows(sentences(12, 7, "o")))
    write_jsonl(folder / "few.jsonl", as_rows(sentences(3, 3, "f")))
    save_decoder(folder / "decoder", tokenizer, layers=1)
    return folder


@pytest.fixture(autouse=True)
def here(work, monkeypatch):
    monkeypatch.chdir(work)


@pytest.fixture
def calm(work, call):
    """The folder of an undisturbed run."""
    if not (work / "calm" / "metrics.json").exists():
        status, out, err = call("benchmark", "causal", *QUICK, "--output-dir", work / "calm", "--resume", "--json")
        assert status == 0, err
        assert orjson.loads(out) == orjson.loads((work / "calm" / "metrics.json").read_bytes())
    return work / "calm"


def numbers(folder):
    """A run's numbers but for what a clock says."""
    found = orjson.loads((folder / "metrics.json").read_bytes())
    for method in found["methods"].values():
        assert method.pop("examples_per_second") > 0
        assert method.pop("learning_seconds") >= 0
        assert method.pop("memory_mb") >= 0
        assert method.pop("cost_share") > 0
    return found


def test_every_method_is_measured(calm):
    found = numbers(calm)
    assert set(found["methods"]) == (set(TEACHERS) - {"adapter"}) | BASELINES
    assert set(found["skipped"]) == {"adapter", "untrained", *LEARNERS}
    assert found["audit"]["examples"] == {"pool": 12, "queries": 5}
    assert set(found["sanity"]["methods"]) == set(found["methods"])
    assert found["quick"] is True
    assert found["splits"] == {"pool": 12, "queries": 5, "subsets": 4, "overlap": 0}
    for name, one in found["methods"].items():
        assert set(one["lds"]) == set(one["one_step"]) == {"all", "query"}
        assert -1 <= one["lds"]["all"]["mean"] <= 1
        low, high = one["lds"]["all"]["interval_95"]
        assert low <= one["lds"]["all"]["mean"] <= high
        assert set(one["rho_to"]) == set(found["methods"])
        assert one["rho_to"][name] == pytest.approx(1)


def test_methods_that_are_asked_for_have_the_numbers_of_a_whole_run(calm, call, tmp_path):
    some = ["--methods", "tfidf", "--teacher", "layer-cosine", "--output-dir", str(tmp_path / "some")]
    status, out, err = call("benchmark", "causal", *QUICK, *some, "--json")
    assert status == 0, err
    found, whole = orjson.loads(out)["methods"], numbers(calm)["methods"]
    assert set(found) == {"random", "tfidf", "gradient-cosine", "layer-cosine", "randomised"}
    assert {name: one["lds"] for name, one in found.items()} == {name: whole[name]["lds"] for name in found}


def test_results_are_written_as_tables(calm):
    text = (calm / "results.md").read_text(encoding="utf-8")
    assert causal_table(orjson.loads((calm / "metrics.json").read_bytes())) in text
    assert text.startswith("12 pool rows, 5 queries, 4 retrained halves, seeds 0; overlap 0.")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[2][0] == "| retraining twice"
    first = [row[0].removeprefix("| ") for row in rows[3 : 3 + len(numbers(calm)["methods"])]]
    assert set(first) == set(numbers(calm)["methods"])
    scores = [numbers(calm)["methods"][name]["lds"]["all"]["mean"] for name in first]
    assert scores == sorted(scores, reverse=True)


def test_a_killed_run_is_resumed_to_the_same_numbers(calm, call, tmp_path):
    killed = tmp_path / "killed"
    words = ["benchmark", "causal", *QUICK, "--output-dir", str(killed)]
    process = Fork(command, *words)
    begin = time.monotonic()
    while len(list(killed.glob("seed-0/scores/*.safetensors"))) < 3 and time.monotonic() - begin < 100:
        time.sleep(0.002)
    assert kill(process)
    assert not (killed / "metrics.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in killed.glob("seed-0/scores/*.safetensors")}
    assert 3 <= len(kept) < len(TEACHERS)
    refused(call(*words), "not empty", "--resume")
    status, out, err = call(*words, "--resume")
    assert status == 0, err
    assert numbers(killed) == numbers(calm)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert out == (killed / "results.md").read_text(encoding="utf-8") + "\n"


def test_benchmark_is_replayed(calm, call, tmp_path, monkeypatch):
    before = (calm / "metrics.json").read_bytes()
    config = tomllib.loads((calm / "config.toml").read_text(encoding="utf-8"))
    assert config["verb"] == "benchmark causal"
    monkeypatch.chdir(tmp_path)
    status, _, err = call("run", calm / "config.toml", "--resume")
    assert status == 0, err
    assert (calm / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [(["--pool", "others.jsonl"], "by another run: pool: "), (["--queries", "few.jsonl"], "by another run: queries: ")],
)
def test_other_examples_are_not_gone_on_with(calm, call, changed, told):
    words = [word for word in QUICK if word not in (changed[0], QUICK[QUICK.index(changed[0]) + 1])]
    before = numbers(calm)
    refused(call("benchmark", "causal", *words, *changed, "--output-dir", calm, "--resume"), told)
    assert numbers(calm) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--pool", "pool.jsonl"], ["--pool and --queries"]),
        (["--queries", "queries.jsonl"], ["--pool and --queries"]),
        (["--pool", "nowhere.jsonl", "--queries", "queries.jsonl"], ["nowhere.jsonl"]),
        (["--pool", "few.jsonl", "--queries", "queries.jsonl"], ["3 examples", "at least 4"]),
        (["--pool", "pool.jsonl", "--queries", "queries.jsonl", "--seeds", "0"], ["seeds is 0", "at least 1"]),
        (["--pool", "pool.jsonl", "--queries", "queries.jsonl", "--subsets", "1"], ["subsets is 1", "at least 2"]),
        (["--pool", "pool.jsonl", "--queries", "queries.jsonl", "--max-length", "1"], ["max_length is 1"]),
        (["--methods", "tf-idf"], ["methods: tf-idf, expected some of random, tfidf"]),
        (["--teacher", "adapter"], ["teacher is adapter", "Name another one"]),
        (["--teacher", "cosine"], ["teacher is 'cosine', expected one of gradient-cosine, layer-cosine"]),
    ],
    ids=lambda value: " ".join(value[-2:]) if value[0].startswith("-") else "",
)
def test_what_is_refused_leaves_the_folder_alone(call, tmp_path, words, told):
    (tmp_path / "earlier").write_text("precious")
    output = ["--output-dir", tmp_path, "--overwrite"]
    refused(call("benchmark", "causal", "--decoder", "decoder", *words, *output), *told)
    assert [path.name for path in tmp_path.iterdir()] == ["earlier"]


def test_queries_that_are_trained_on_are_refused(call, tmp_path):
    files = ["--pool", "pool.jsonl", "--queries", "pool.jsonl"]
    result = call("benchmark", "causal", "--decoder", "decoder", *files, "--quick", "--output-dir", tmp_path)
    refused(result, "'p0' has the same id as 'p0' of another split")


def test_protocol_that_is_none(call):
    status, out, err = call("benchmark", "magic")
    assert (status, out) == (2, "")
    assert "causal" in err


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"subsets": 1}, {"stepped": 0}])
def test_settings_that_measure_nothing(wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is "):
        CausalSettings(**wrong)


def test_students_learn_from_their_own_split(tokenizer, tmp_path):
    decoder = tiny_decoder("llama", tokenizer, layers=1)
    sides = [(sentences(12, 20 + n, f"{n}q"), sentences(20, 30 + n, f"{n}p")) for n in range(4)]
    queries, pool = sides[0][0][:5], sides[0][1][:8]
    kinds = ["one", "one", "one", "other", "other"]
    problem = Problem(pool, queries, kinds, *(Split(*side) for side in sides[1:]))
    settings = CausalSettings(methods=sorted(LEARNERS), seeds=2, subsets=2, stepped=2, training_epochs=1, rows_a_step=8)
    found = Causal(decoder, settings, problem).run(tmp_path)
    assert set(found["methods"]) >= LEARNERS - {"paper-recipe"}
    assert found["seeds"] == [0, 1]
    for one in found["methods"].values():
        assert set(one["lds"]) == {"all", "one", "other"}
        assert len(one["lds"]["all"]["seeds"]) == 2
        assert one["lds"]["all"]["mean"] == pytest.approx(np.mean(one["lds"]["all"]["seeds"]))
    assert "LDS, other" in causal_tables(found)
    assert "seeds 0, 1;" in causal_tables(found)


@pytest.mark.parametrize("small", [False, True])
def test_the_demos_problem_keeps_its_splits_apart(small):
    problem = facts_problem(small)
    assert count_overlap(problem.queries, problem.pool, *problem.train, *problem.validation) == 0
    assert set(problem.kinds) == {"fact", "task"}
    assert len(problem.kinds) == len(problem.queries)
    facts = {query.metadata["fact"] for query in problem.queries if query.metadata["kind"] == "fact"}
    assert facts <= {row.metadata["fact"] for row in problem.pool if row.metadata["kind"] == "planted"}


@pytest.mark.parametrize("family", FAMILIES)
def test_first_layers_are_a_smaller_decoder_of_the_family(tokenizer, family):
    decoder = tiny_decoder(family, tokenizer)
    small = first_layers(decoder)
    assert small.model.config.num_hidden_layers == 1
    assert decoder.model.config.num_hidden_layers == 2
    assert len(list(small.model.parameters())) < len(list(decoder.model.parameters()))
    assert small.fingerprint.decoder != decoder.fingerprint.decoder
    whole = decoder.model.state_dict()
    assert all(tensor.equal(whole[name]) for name, tensor in small.model.state_dict().items())


def test_layers_in_no_list_are_refused(tokenizer):
    decoder = tiny_decoder("llama", tokenizer)
    decoder.model.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match="one list of its 7 layers, found 0"):
        first_layers(decoder)


@pytest.mark.parametrize("task", TASKS)
def test_every_flag_of_the_benchmarks_is_explained(task):
    arguments = cli.app["benchmark"][task].assemble_argument_collection(parse_docstring=True)
    shown = [argument for argument in arguments if argument.show]
    assert {"--output-dir", "--decoder", "--quick", "--seeds", "--max-length"} <= {argument.name for argument in shown}
    assert [argument.name for argument in shown if not argument.parameter.help] == []
