"""The verbs in Python: whatever form their inputs have, they do what the command line does."""

import contextlib
from pathlib import Path

import datasets
import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

import influcoder
from helpers.folders import contents
from helpers.sentences import sentences, write_jsonl
from helpers.tiny import save_decoder
from influcoder import Decoder, FeaturesFolder, Index, InflucoderError, InfluenceEncoder, Selection, cli
from influcoder.data.reading import read_examples
from influcoder.errors import ConfigError, DataError, ModelError, StoreError
from influcoder.runners.runner import InProcess

SMALL = {"rank": 4, "width": 512, "precision": "fp32", "max_length": 96}
FLAGS = ["--rank", 4, "--width", 512, "--precision", "fp32", "--max-length", 96]
BUT = ("config.toml",)
ASKED = {"prompt": "the capital of France", "completion": "Paris"}
FORMS = ["path", "rows", "Dataset", "Examples"]


def questions(count, seed, name):
    return [{"id": one.id, "question": one.prompt, "answer": one.completion} for one in sentences(count, seed, name)]


def instructions(count, seed, name):
    """Rows in the layout of Dolly."""
    made = zip(sentences(count, seed, name), sentences(count, seed + 100, name), strict=True)
    return [
        {
            "id": one.id,
            "instruction": one.prompt,
            "context": other.prompt if number % 2 else "",
            "response": one.completion,
            "category": f"kind {number % 3}",
        }
        for number, (one, other) in enumerate(made)
    ]


def command(*words):
    with contextlib.suppress(SystemExit):
        cli.app([str(word) for word in words])


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    """Inputs, and the folders that the command line makes of them."""
    folder = tmp_path_factory.mktemp("work")
    save_decoder(folder / "decoder", tokenizer)
    for name, rows in {
        "queries": questions(30, 1, "q"),
        "pool": instructions(60, 2, "p"),
        "test-queries": questions(8, 5, "tq"),
        "test-pool": instructions(16, 6, "tp"),
    }.items():
        write_jsonl(folder / f"{name}.jsonl", rows)
    decoder = ["--decoder", folder / "decoder"]
    for kind in ("", "test-"):
        files = ["--queries", folder / f"{kind}queries.jsonl", "--pool", folder / f"{kind}pool.jsonl"]
        command("features", *decoder, *files, *FLAGS, "--output-dir", folder / f"{kind}features")
    command("distill", "--features", folder / "features", "--output-dir", folder / "encoder")
    where = ["--encoder", folder / "encoder", "--pool", folder / "pool.jsonl"]
    command("index", *where, "--output-dir", folder / "index")
    return folder


@pytest.fixture
def here(work, monkeypatch):
    monkeypatch.chdir(work)


def given(form, name):
    rows = [orjson.loads(line) for line in Path(f"{name}.jsonl").read_bytes().splitlines()]
    return {
        "path": f"{name}.jsonl",
        "rows": rows,
        "Dataset": datasets.Dataset.from_list(rows),
        "Examples": read_examples(rows),
    }[form]


@pytest.mark.parametrize("form", FORMS)
def test_features(here, work, tmp_path, form):
    decoder = "decoder" if form != "Dataset" else Decoder.load("decoder", max_length=96, device="cpu")
    made = influcoder.features(decoder, given(form, "queries"), given(form, "pool"), tmp_path / "f", **SMALL)
    assert isinstance(made, FeaturesFolder)
    assert contents(tmp_path / "f", BUT) == contents(work / "features", BUT)


@pytest.mark.parametrize("loaded", [False, True])
def test_distill(here, work, tmp_path, loaded):
    encoder = influcoder.distill(FeaturesFolder("features") if loaded else "features", str(tmp_path / "e"))
    assert encoder.folder == tmp_path / "e"
    assert contents(tmp_path / "e", BUT) == contents(work / "encoder", BUT)


@pytest.mark.parametrize("form", FORMS)
def test_distill_with_unlabelled_rows_and_a_decoder(here, tmp_path, form):
    more = given(form, "test-pool")
    encoder = influcoder.distill("features", tmp_path / "e", recipe="forward", decoder="decoder", unlabelled=more)
    assert encoder.provenance.student.pseudo_pool == 16
    assert len(encoder.encode_pool(read_examples("pool.jsonl"))) == 60  # it was loaded with its decoder


@pytest.mark.parametrize("form", FORMS)
def test_index(here, work, tmp_path, form):
    encoder = InfluenceEncoder.load("encoder") if form == "rows" else "encoder"
    index = influcoder.index(encoder, given(form, "pool"), tmp_path / "i")
    assert isinstance(index, Index)
    but = (*BUT, "metrics.json")
    if form == "Examples":  # they have the rows that they were read from as well
        assert index.example(3) == read_examples("pool.jsonl")[3]
    assert contents(tmp_path / "i", but) == contents(work / "index", but)
    found = orjson.loads((tmp_path / "i" / "metrics.json").read_bytes())
    assert found | {"seconds": 0} == orjson.loads((work / "index" / "metrics.json").read_bytes()) | {"seconds": 0}


def test_index_is_resumed_and_written_by_workers(here, work, tmp_path, monkeypatch):
    counts = []
    monkeypatch.setattr("influcoder.api.Processes", lambda count: counts.append(count) or InProcess())
    for options in ({"workers": 2}, {"resume": True}, {"overwrite": True, "workers": InProcess()}):
        influcoder.index("encoder", ["pool.jsonl"], tmp_path / "i", **options)
        assert (tmp_path / "i" / "manifest.json").read_bytes() == (work / "index" / "manifest.json").read_bytes()
    assert counts == [2]


def test_index_is_changed(here, tmp_path):
    index = influcoder.index("encoder", "pool.jsonl", tmp_path / "i")
    assert len(index.add("test-pool.jsonl")) == 76
    assert len(Index(tmp_path / "i").remove(["p0", "nobody"])) == 75


def test_search_by_a_prompt(here, call):
    words = ["--prompt", ASKED["prompt"], "--completion", ASKED["completion"], "-k", 4, "--json"]
    _, out, _ = call("search", "--index", "index", *words)
    hits = influcoder.search("index", **ASKED, k=4)
    assert isinstance(hits, influcoder.Hits)
    assert (hits.query.prompt, hits.query.turns) == (ASKED["prompt"], (("user", ASKED["prompt"]),))
    told = [(hit["id"], hit["score"]) for hit in orjson.loads(out)[0]["hits"]]
    assert [(hit.example.id, hit.score) for hit in hits] == [(name, pytest.approx(score)) for name, score in told]
    row = {"id": "query", "question": ASKED["prompt"], "answer": ASKED["completion"]}
    assert influcoder.search(Index("index"), [row], k=4) == [hits]


@pytest.mark.parametrize("form", FORMS)
def test_search_by_queries(here, call, form):
    words = ["--queries", "queries.jsonl", "--opponents", "--where", "category=kind 1", "-k", 3, "--json"]
    _, out, _ = call("search", "--index", "index", *words, "--verify", 5, "--decoder", "decoder")
    found = influcoder.search(
        "index", given(form, "queries"), k=3, opponents=True, where="category=kind 1", verify=5, decoder="decoder"
    )
    assert [hits.query.id for hits in found] == [f"q{n}" for n in range(30)]
    for hits, told in zip(found, orjson.loads(out), strict=True):
        assert [hit.example.id for hit in hits] == [hit["id"] for hit in told["hits"]]
        assert [hit.exact for hit in hits] == pytest.approx([hit["exact"] for hit in told["hits"]])
        assert {hit.example.metadata["category"] for hit in hits} == {"kind 1"}


@pytest.mark.parametrize("form", FORMS)
def test_score(here, tmp_path, call, form):
    assert call("score", "--index", "index", "--queries", "queries.jsonl", "--output-dir", tmp_path / "cli")[0] == 0
    told = pq.read_table(tmp_path / "cli" / "scores.parquet")
    assert influcoder.score("index", given(form, "queries")).equals(told)
    path = influcoder.score(Index("index"), given(form, "queries"), tmp_path / "python")
    assert pq.read_table(path).equals(told)
    some = influcoder.score("index", given(form, "queries"), where="category=kind 1")
    assert some["id"].to_pylist() == [f"p{n}" for n in range(1, 60, 3)]


@pytest.mark.parametrize("form", FORMS)
def test_select(here, tmp_path, call, form):
    where = ["--index", "index", "--queries", "queries.jsonl", "--output-dir", tmp_path / "cli"]
    assert call("select", *where, "--top", "20%")[0] == 0
    selection = influcoder.select("index", given(form, "queries"), top=0.2)
    selection.save(tmp_path / "selection.parquet")
    assert (tmp_path / "selection.parquet").read_bytes() == (tmp_path / "cli" / "selection.parquet").read_bytes()
    rows = [row for row in given("rows", "pool") if row["id"] in selection.kept_ids]
    for one in (selection, Selection.load(tmp_path / "cli")):
        assert list(one.to_dataset()) == rows
    again = influcoder.select("index", given(form, "queries"), threshold=0.0)
    assert selection.rethreshold(threshold=0.0).table().equals(again.table())


@pytest.mark.parametrize("form", ["path", "loaded"])
def test_evaluate(here, work, tmp_path, call, form):
    where = ["--encoder", "encoder", "--features", "test-features", "--output-dir", tmp_path / "cli"]
    status, out, err = call("evaluate", *where, "--decoder", "decoder", "--train-features", "features", "--json")
    assert status == 0, err
    names = ["encoder", "test-features", "features", "decoder"]
    made = names
    if form == "loaded":
        loads = [InfluenceEncoder.load, FeaturesFolder, FeaturesFolder, lambda name: Decoder.load(name, max_length=96)]
        made = [load(name) for load, name in zip(loads, names, strict=True)]
    folder = tmp_path / "python" if form == "path" else None
    found = influcoder.evaluate(*made[:2], folder, train_features=made[2], decoder=made[3])
    told = orjson.loads(out)["methods"]
    assert found["methods"].keys() == told.keys()
    for name, values in found["methods"].items():
        assert values["per_query_spearman"] == pytest.approx(told[name]["per_query_spearman"])
    assert folder is None or {path.name for path in folder.iterdir()} == {"metrics.json", "report.html"}


def test_slow_tiers_find_their_decoder(here, tmp_path):
    """A path is read as the encoder's record says; what is loaded already is taken as it is."""
    influcoder.distill("features", tmp_path / "e", recipe="short", decoder="decoder")
    index = influcoder.index(tmp_path / "e", "pool.jsonl", tmp_path / "i", decoder="decoder")
    assert index.encoder.decoder.max_length == 96
    for options in ({"decoder": "decoder"}, {"decoder": Decoder.load("decoder", max_length=96)}):
        assert len(influcoder.search(tmp_path / "i", **ASKED, k=3, **options)) == 3
        assert len(influcoder.select(tmp_path / "i", "queries.jsonl", top=0.1, **options).kept) == 6
    with pytest.raises(ModelError, match="give it with --decoder"):
        influcoder.search(tmp_path / "i", **ASKED)


CALLS = {
    "no rows": (DataError, lambda: influcoder.search("index", [])),
    "a number for rows": (DataError, lambda: influcoder.search("index", 5)),
    "bytes for rows": (DataError, lambda: influcoder.index("encoder", b"rows", "new")),
    "a dictionary for rows": (DataError, lambda: influcoder.index("encoder", {"train": []}, "new")),
    "rows of no layout": (DataError, lambda: influcoder.index("encoder", [{"x": 1}], "new")),
    "no such file": (DataError, lambda: influcoder.index("encoder", "nowhere.jsonl", "new")),
    "no such files": (DataError, lambda: influcoder.index("encoder", ["pool.jsonl", "nowhere.jsonl"], "new")),
    "nothing asked": (ConfigError, lambda: influcoder.search("index")),
    "a prompt alone": (ConfigError, lambda: influcoder.search("index", prompt="What?")),
    "an empty completion": (ConfigError, lambda: influcoder.search("index", prompt="What?", completion=" ")),
    "both": (ConfigError, lambda: influcoder.search("index", "queries.jsonl", **ASKED)),
    "no such index": (StoreError, lambda: influcoder.search("nowhere", **ASKED)),
    "a number for an index": (ConfigError, lambda: influcoder.score(5, "queries.jsonl")),
    "no such encoder": (ModelError, lambda: influcoder.index("nowhere", "pool.jsonl", "new")),
    "a number for an encoder": (ConfigError, lambda: influcoder.index(5, "pool.jsonl", "new")),
    "no such features": (StoreError, lambda: influcoder.distill("nowhere", "new")),
    "a number for features": (ConfigError, lambda: influcoder.distill(5, "new")),
    "no such decoder": (ModelError, lambda: influcoder.features("nowhere", "queries.jsonl", "pool.jsonl", "new")),
    "a number for a decoder": (ConfigError, lambda: influcoder.features(5, "queries.jsonl", "pool.jsonl", "new")),
    "no such teacher": (ConfigError, lambda: compute(teacher="magic")),
    "no such setting": (ConfigError, lambda: compute(magic=1)),
    "a setting out of range": (ConfigError, lambda: compute(rank=0)),
    "a number for a checkpoint": (ConfigError, lambda: compute(teacher="tracin", checkpoints=[5])),
    "no such workers": (ConfigError, lambda: influcoder.index("encoder", "pool.jsonl", "new", workers="two")),
    "too few workers": (ConfigError, lambda: influcoder.index("encoder", "pool.jsonl", "new", workers=0)),
    "no such code": (ConfigError, lambda: influcoder.index("encoder", "pool.jsonl", "new", code="int2")),
    "no such recipe": (ConfigError, lambda: influcoder.distill("features", "new", recipe="magic")),
    "a full folder": (StoreError, lambda: influcoder.index("encoder", "pool.jsonl", "index")),
    "a number for a folder": (ConfigError, lambda: influcoder.index("encoder", "pool.jsonl", 5)),
    "its own input": (ConfigError, lambda: influcoder.distill("features", "features", overwrite=True)),
    "no rule": (ConfigError, lambda: influcoder.select("index", "queries.jsonl")),
    "two rules": (ConfigError, lambda: influcoder.select("index", "queries.jsonl", top=0.1, drop=0.1)),
    "a share in words": (ConfigError, lambda: influcoder.select("index", "queries.jsonl", top="5%")),
    "an adapter alone": (ConfigError, lambda: influcoder.search("index", **ASKED, adapter="adapter")),
    "checkpoints alone": (ConfigError, lambda: influcoder.evaluate("encoder", "test-features", checkpoints=["x"])),
    "what it was trained on": (DataError, lambda: influcoder.evaluate("encoder", "features")),
}


def compute(**options):
    return influcoder.features("decoder", "queries.jsonl", "pool.jsonl", "new", **options)


@pytest.mark.parametrize("name", CALLS)
def test_bad_input_is_an_error_that_says_so(here, work, name):
    kind, wrong = CALLS[name]
    before = contents(work)
    with pytest.raises(InflucoderError) as told:
        wrong()
    assert isinstance(told.value, kind)
    assert "\n" not in str(told.value)
    assert {path: data for path, data in contents(work).items() if not path.startswith("new")} == before


def test_adapter_of_a_loaded_decoder_is_refused(here):
    decoder = Decoder.load("decoder")
    with pytest.raises(ConfigError, match="is loaded already"):
        influcoder.search("index", **ASKED, decoder=decoder, adapter="adapter")


def test_numbers_are_plain(here):
    hit = influcoder.search("index", **ASKED, k=1)[0]
    assert type(hit.score) is float
    assert np.isfinite(hit.score)
