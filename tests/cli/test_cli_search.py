"""`influcoder search` that re-checks: tokens, the certified bound, and the decoder's own answer."""

import orjson
import pyarrow.parquet as pq
import pytest

import influcoder
from helpers.commands import refused
from helpers.sentences import sentences
from helpers.tiny import save_decoder
from influcoder.model.decoder import Decoder

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("work")
    save_decoder(folder / "decoder", tokenizer)
    sample = sentences(24, 1, "q"), sentences(40, 2, "p")
    small = {"rank": 4, "width": 512, "precision": "fp32", "max_length": 96}
    features = influcoder.features(folder / "decoder", *sample, folder / "features", **small)
    encoder = influcoder.distill(features, folder / "encoder")
    influcoder.index(encoder, sentences(60, 3, "a-row-with-a-name-of-some-length-"), folder / "index")
    return folder


@pytest.fixture
def here(work, monkeypatch):
    monkeypatch.chdir(work)
    monkeypatch.setenv("COLUMNS", "80")


ASKED = ("search", "--index", "index", "--query", QUESTION, "-k", 4)
RECHECKED = (*ASKED, "--decoder", "decoder", "--verify", 10)


def told(call, *words):
    status, out, err = call(*words, "--json")
    assert status == 0, err
    return orjson.loads(out)[0]


def test_tokens_and_certificate_of_an_own_answer_as_json(here, call):
    found = told(call, *RECHECKED, "--tokens", "--certify", 20)
    answer = Decoder.load("decoder", max_length=96).answer(influcoder.Example.question(QUESTION, "?"), 64)
    assert found["answer"] == found["completion"] == answer
    assert len(found["hits"]) == 4
    for hit in found["hits"]:
        for name, text in (("tokens", hit["completion"]), ("answer_tokens", answer)):
            read = "".join(piece for piece, _ in hit[name])
            assert read == text or (text is answer and text.startswith(read))  # which 96 tokens may be too few for
            assert sum(share for _, share in hit[name]) == pytest.approx(hit["exact"], rel=1e-4, abs=1e-6)
    assert (found["certified"]["sampled"], found["certified"]["others"]) == (20, 50)
    in_python = influcoder.search("index", prompt=QUESTION, decoder="decoder", k=4, verify=10, tokens=True, certify=20)
    assert in_python.certified.at_most == pytest.approx(found["certified"]["at_most"])
    assert [hit.tokens[0][0] for hit in in_python] == [hit["tokens"][0][0] for hit in found["hits"]]


def test_without_the_flags_nothing_is_told_of_them(here, call):
    found = told(call, *RECHECKED, "--completion", "Paris")
    assert (found["answer"], found["certified"]) == (None, None)
    assert not {"tokens", "answer_tokens"} & found["hits"][0].keys()


def test_as_text_it_fits_80_columns(here, call):
    status, out, _ = call(*RECHECKED, "--tokens", "--certify", 20)
    assert status == 0
    assert out.startswith(f"\nAsked: {QUESTION}\nThe model's own answer: ")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    names = [line for line in lines if "a-row-with-a-name-of-some-length-" in line]
    assert len(names) == 4
    assert all(line.rstrip("│ ")[-1].isdigit() for line in names)
    assert sum("tokens: " in line for line in lines) == sum("answer: " in line for line in lines) - 1 == 4
    assert "of the other rows (of 50) score above the 4th found" in " ".join(out.split())


def test_estimates_alone_have_no_column_of_exact_scores(here, call):
    out = call(*ASKED, "--completion", "Paris")[1]
    assert "exact" not in out
    assert "--verify N re-checks" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*ASKED, "--completion", "Paris", "--tokens"), "--tokens tells the tokens of rows"),
        ((*ASKED, "--completion", "Paris", "--certify", 9), "--certify bounds what is missed"),
        (ASKED, "--completion is missing"),
        ((*RECHECKED, "--completion", " "), "--completion is missing"),
        ((*RECHECKED, "--certify", -2), "certify is -2"),
    ],
)
def test_what_is_refused(here, call, words, message):
    refused(call(*words), message)


def test_a_decoder_that_answers_nothing(here, call, monkeypatch):
    monkeypatch.setattr(Decoder, "answer", lambda *_: "")
    refused(call(*RECHECKED), f"answers '{QUESTION}' with nothing. Give an answer with --completion")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_hits_are_written_with_their_tokens(here, call, tmp_path, kind):
    path = tmp_path / f"hits.{kind}"
    found = told(call, *RECHECKED, "--completion", "Paris", "--tokens", "--output", path)
    rows = (
        pq.read_table(path).to_pylist()
        if kind == "parquet"
        else list(map(orjson.loads, path.read_bytes().splitlines()))
    )
    assert [row["id"] for row in rows] == [hit["id"] for hit in found["hits"]]
    for row, hit in zip(rows, found["hits"], strict=True):
        assert (row["rank"], row["query_completion"], row["memorised"]) == (hit["rank"], "Paris", False)
        shares = [[one["text"], one["share"]] for one in row["tokens"]]
        assert [text for text, _ in shares] == [text for text, _ in hit["tokens"]]
        assert sum(share for _, share in shares) == pytest.approx(hit["exact"], rel=1e-3, abs=1e-5)


def test_hits_go_to_a_known_kind_of_file(here, call, tmp_path):
    refused(call(*ASKED, "--completion", "Paris", "--output", tmp_path / "hits.csv"), "ends in .jsonl or .parquet")


def test_memorised_rows_are_told(here, call, monkeypatch):
    monkeypatch.setattr("influcoder.teachers.memorised.LOSS", 99.0)  # the loss of any row is less
    found = told(call, *RECHECKED, "--completion", "Paris")
    assert found["memorised"] == sorted(hit["id"] for hit in found["hits"])
    assert "4 of the 4 rows shown are memorised" in call(*RECHECKED, "--completion", "Paris")[1].replace("\n", " ")
    assert told(call, *ASKED, "--completion", "Paris")["memorised"] is None
