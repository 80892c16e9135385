"""`influcoder export --format atlas`."""

import orjson
import pyarrow.parquet as pq
import pytest

import influcoder
from helpers.commands import refused
from helpers.sentences import sentences
from helpers.tiny import save_decoder


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("work")
    save_decoder(folder / "decoder", tokenizer)
    small = {"rank": 4, "width": 512, "precision": "fp32", "max_length": 96}
    sample = sentences(24, 1, "q"), sentences(40, 2, "p")
    features = influcoder.features(folder / "decoder", *sample, folder / "features", **small)
    influcoder.index(influcoder.distill(features, folder / "encoder"), sentences(60, 3, "row"), folder / "index")
    return folder


@pytest.fixture
def here(work, monkeypatch):
    monkeypatch.chdir(work)


def test_the_command_that_opens_the_map_is_printed(here, call):
    status, out, err = call("export", "--index", "index", "--format", "atlas", "--output-dir", "map")
    assert status == 0, err
    assert "uvx embedding-atlas map/atlas.parquet --text text" in out
    assert len(pq.read_table("map/atlas.parquet")) == 60


@pytest.mark.parametrize("decoder", [(), ("--decoder", "decoder")])
def test_a_question_gives_influence_as_search_does(here, call, decoder):
    asked = ("--query", "What is the capital of France?", "--completion", "Paris", *decoder)
    status, out, err = call(
        "export", "--index", "index", "--format", "atlas", *asked, "--output-dir", "asked", "--json", "--overwrite"
    )
    assert status == 0, err
    assert orjson.loads(out)["rows"] == 60
    table = pq.read_table("asked/atlas.parquet")
    status, out, err = call("search", "--index", "index", *asked, "-k", 1, "--json")
    (best,) = orjson.loads(out)[0]["hits"]
    scores = dict(zip(table["id"].to_pylist(), table["influence"].to_pylist(), strict=True))
    assert max(scores, key=scores.get) == best["id"]
    assert scores[best["id"]] == pytest.approx(best["score"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "give --lance URI"),
        (("--format", "atlas", "--lance", "db"), "give --lance URI"),
        (("--lance", "db", "--query", "a"), "--query"),
        (("--format", "atlas", "--approximate"), "--approximate"),
        (("--format", "atlas", "--query", "a"), "--completion is missing"),
        (("--format", "atlas", "--completion", "a"), "--query is missing"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(here, call, words, told):
    if told == "--query":
        told = "--prompt is for --format atlas"
    refused(call("export", "--index", "index", "--output-dir", "none", *words), told)
