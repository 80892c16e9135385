"""Drift: what is told of an encoder at its own decoder and at others, where it is kept, and what is refused."""

from dataclasses import replace

import orjson
import pytest

import influcoder
from helpers.sentences import as_rows, sentences, write_jsonl
from helpers.tiny import save_adapter, save_decoder, tiny_model, tiny_tokenizer
from influcoder.errors import ConfigError, DataError, StoreMismatch
from influcoder.student.encoder import InfluenceEncoder
from influcoder.verbs.drift import drift, last_check


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("drift")
    decoder = save_decoder(folder / "decoder", tokenizer)
    sample = sentences(120, 1, "q"), sentences(240, 2, "p")
    influcoder.features(decoder, *sample, folder / "train", rank=4, width=512, precision="fp32")
    influcoder.distill(folder / "train", folder / "static")
    tiny_model("llama", seed=8).save_pretrained(folder / "other")
    tokenizer.save_pretrained(folder / "other")
    write_jsonl(folder / "queries.jsonl", as_rows(sentences(60, 11, "fresh-q")))
    write_jsonl(folder / "pool.jsonl", as_rows(sentences(120, 12, "fresh-p")))
    influcoder.index(folder / "static", folder / "pool.jsonl", folder / "index")
    return folder


def probed(work, decoder, **more):
    return drift(work / "static", work / decoder, work / "queries.jsonl", work / "pool.jsonl", **more)


def test_an_encoder_is_fine_at_its_own_decoder(work):
    found = probed(work, "decoder", tolerance=0.6)
    assert found["verdict"] == "fine"
    assert found["agreement_now"]["mean"] > 0.4 * found["agreement_then"]["mean"]
    assert found["gradients"] == found["agreement_now"]["queries"] + found["agreement_now"]["pool"] <= 240


def test_an_encoder_is_stale_at_another_decoder_and_its_index_says_so(work, call):
    words = ("--encoder", work / "static", "--decoder", work / "other")
    rows = ("--queries", work / "queries.jsonl", "--pool", work / "pool.jsonl")
    status, out, err = call("drift", *words, *rows, "--index", work / "index", "--json")
    found = orjson.loads(out)
    assert (status, found["verdict"]) == (3, "stale"), err
    low, high = found["interval_95"]
    assert low < found["agreement_now"]["mean"] < high < found["agreement_then"]["mean"]
    assert found["gradients"] < 60

    hits = influcoder.search(work / "index", prompt="Paris", completion="Rome")
    assert hits.drift["verdict"] == hits.json()["drift"]["verdict"] == "stale"
    shown = call("search", "--index", work / "index", "--query", "Paris", "--completion", "Rome")[1]
    assert f"on decoder {work / 'other'}: stale." in " ".join(shown.split())
    assert last_check(work / "index", "another encoder") is None
    assert call("drift", *words, *rows)[1].startswith("Drift checked on ")


def test_a_small_budget_leaves_it_undecided_with_status_0(work, call):
    words = ("--encoder", work / "static", "--decoder", work / "decoder", "--budget", 12, "--tolerance", "5%")
    status, out, _ = call("drift", *words, "--queries", work / "queries.jsonl", "--pool", work / "pool.jsonl")
    assert status == 0
    assert "undecided" in out
    assert "Give more --budget" in out


def test_rows_that_the_encoder_has_seen_are_left_out(work):
    write_jsonl(work / "seen.jsonl", as_rows([*sentences(120, 1, "q"), *sentences(3, 13, "new")]))
    with pytest.raises(DataError, match=r"queries: 3 of 123 rows were not seen .* at least 4"):
        drift(work / "static", work / "decoder", work / "seen.jsonl", work / "pool.jsonl")


def test_no_text_is_on_both_sides(work):
    found = drift(work / "static", work / "decoder", work / "queries.jsonl", work / "queries.jsonl", tolerance=0.01)
    assert found["agreement_now"]["queries"] + found["agreement_now"]["pool"] <= 60


def test_other_models_are_refused(work, tmp_path):
    tiny_model("llama", layers=3).save_pretrained(tmp_path / "deeper")
    tiny_tokenizer().save_pretrained(tmp_path / "deeper")
    with pytest.raises(StoreMismatch, match=r"number of parameters \d+, .* Compute its features and distill"):
        drift(work / "static", tmp_path / "deeper", work / "queries.jsonl", work / "pool.jsonl")
    save_decoder(tmp_path / "tokens", tiny_tokenizer(chat=True))
    with pytest.raises(StoreMismatch, match="with tokenizer"):
        drift(work / "static", tmp_path / "tokens", work / "queries.jsonl", work / "pool.jsonl")


def test_an_adapter_is_a_later_state_too(work, tmp_path):
    save_adapter(tmp_path / "adapter", "llama", target_modules=["q_proj", "down_proj"])
    assert probed(work, "decoder", adapter=tmp_path / "adapter")["decoder"].endswith("adapter")


def test_encoders_without_a_teacher_or_an_agreement_are_refused(work):
    rows = (work / "decoder", work / "queries.jsonl", work / "pool.jsonl")
    encoder = InfluenceEncoder.load(work / "static")
    teacher = encoder.provenance.teacher
    encoder.provenance = replace(encoder.provenance, teacher=replace(teacher, name="imported"))
    with pytest.raises(ConfigError, match="imported"):
        drift(encoder, *rows)
    encoder.provenance = replace(
        encoder.provenance, teacher=replace(teacher, checkpoints=(encoder.provenance.decoder,))
    )
    with pytest.raises(ConfigError, match="1 checkpoints"):
        drift(encoder, *rows)
    encoder.agreement = None
    with pytest.raises(ConfigError, match="not recorded"):
        drift(encoder, *rows)
    encoder.settings["tier"] = "short"
    with pytest.raises(ConfigError, match="from Python"):
        drift(encoder, *rows)


@pytest.mark.parametrize("wrong", [{"tolerance": 0}, {"tolerance": 1.5}, {"budget": 11}])
def test_settings_that_make_no_test_are_refused(work, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        probed(work, "decoder", **wrong)


def test_an_index_of_another_encoder_is_refused(work):
    encoder = InfluenceEncoder.load(work / "static")
    encoder.__dict__["fingerprint"] = "0" * 64
    with pytest.raises(StoreMismatch, match="made by another encoder"):
        drift(encoder, work / "decoder", work / "queries.jsonl", work / "pool.jsonl", index=work / "index")
