"""Rows are scored by the queries' own gradients where there is the decoder, and by their text elsewhere."""

import numpy as np
import pytest

import influcoder
from helpers.sentences import sentences
from helpers.tiny import save_decoder, tiny_decoder
from influcoder import Decoder
from influcoder.errors import StoreMismatch
from influcoder.indexes.index import Index
from influcoder.student.encoder_folder import teacher_of

POOL, QUERIES, CONTROL = sentences(60, 2, "p"), sentences(5, 7, "asked"), sentences(4, 8, "control")


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("asked")
    decoder = save_decoder(folder / "decoder", tokenizer)
    influcoder.features(decoder, sentences(30, 1, "q"), POOL, folder / "features", rank=4, width=512, precision="fp32")
    influcoder.distill(folder / "features", folder / "encoder")
    influcoder.index(folder / "encoder", POOL, folder / "index")
    return folder


@pytest.fixture(scope="module")
def asked(work):
    """(queries, rows): what the gradients of some queries give."""
    index = Index(work / "index")
    teacher = teacher_of(index.encoder, Decoder.load(work / "decoder", device="cpu"))

    def scores(queries):
        return index.scores(index.encoder.project_query(queries, teacher.features(queries, "query").vectors))

    return scores


def test_a_selection_goes_by_the_gradients_of_its_queries(work, asked):
    by_text = influcoder.select(work / "index", QUERIES, top=0.2)
    by_gradient = influcoder.select(work / "index", QUERIES, top=0.2, decoder=work / "decoder")
    np.testing.assert_allclose(by_gradient.scores, asked(QUERIES).mean(axis=0), atol=1e-5)
    assert not np.allclose(by_text.scores, by_gradient.scores, atol=1e-3)
    assert (by_text.made_by["asked"], by_gradient.made_by["asked"]) == ("text", "gradient")


def test_so_do_its_controls_and_every_order(work, asked):
    selection = influcoder.select(work / "index", QUERIES, rows=6, by="max", against=CONTROL, decoder=work / "decoder")
    expected = (asked(QUERIES) - asked(CONTROL).mean(axis=0)).max(axis=0)
    np.testing.assert_allclose(selection.scores, expected, atol=1e-5)


def test_scores_go_by_the_gradients_too(work, asked):
    table = influcoder.score(work / "index", QUERIES, decoder=work / "decoder")
    found = np.stack([table[f"score:{query.id}"].to_numpy() for query in QUERIES])
    np.testing.assert_allclose(found, asked(QUERIES), atol=1e-5)
    hits = influcoder.search(work / "index", QUERIES, k=1, decoder=work / "decoder")
    np.testing.assert_allclose([one[0].score for one in hits], found.max(axis=1), atol=1e-5)


def test_the_command_line_asks_as_the_package(work, call, tmp_path):
    queries = tmp_path / "queries.jsonl"
    queries.write_text('{"id": "q", "prompt": "Paris is the capital", "completion": " of France"}\n')
    words = ["--index", work / "index", "--queries", queries, "--decoder", work / "decoder", "--output-dir"]
    assert call("select", *words, tmp_path / "selection", "--top", "10%")[0] == 0
    assert call("score", *words, tmp_path / "scores")[0] == 0
    selection = influcoder.Selection.load(tmp_path / "selection")
    expected = influcoder.score(work / "index", queries, decoder=work / "decoder")["score:q"].to_numpy()
    np.testing.assert_allclose(selection.scores, expected, atol=1e-5)
    assert selection.made_by["asked"] == "gradient"


def test_another_decoder_is_refused(work, tokenizer):
    with pytest.raises(StoreMismatch, match="distilled from a decoder with"):
        influcoder.select(work / "index", QUERIES, top=0.1, decoder=tiny_decoder("llama", tokenizer, seed=9))


def test_an_encoder_without_a_projector_is_asked_by_text(work):
    index = Index(work / "index")
    index.encoder.query_projector = None
    selection = influcoder.select(index, QUERIES, top=0.1, decoder=work / "decoder")
    assert selection.made_by["asked"] == "text"
