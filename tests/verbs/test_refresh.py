"""`distill --from`: few gradients of a later decoder, what they are worth, what is kept, and what is refused."""

import numpy as np
import orjson
import pytest

import influcoder
from helpers.sentences import sentences
from helpers.tiny import save_decoder
from influcoder.errors import ConfigError, StoreMismatch
from influcoder.maths.carry import carried
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.model.finetune import FinetuneSettings, finetune
from influcoder.student import decoder_tables
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of
from influcoder.student.features_folder import FeaturesFolder

SETTINGS = {"rank": 4, "width": 512, "precision": "fp32"}
SAMPLE = sentences(100, 1, "q"), sentences(200, 2, "p")
TEST = sentences(40, 3, "tq"), sentences(80, 4, "tp")


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("refresh")
    save_decoder(folder / "decoder", tokenizer)
    training = FinetuneSettings(epochs=4, learning_rate=3e-3, precision="fp32")
    later = finetune(Decoder.load(folder / "decoder", device="cpu"), sentences(80, 5, "other"), training)
    later.model.save_pretrained(folder / "later")
    tokenizer.save_pretrained(folder / "later")
    influcoder.features(folder / "decoder", *SAMPLE, folder / "features", **SETTINGS)
    influcoder.distill(folder / "features", folder / "encoder")
    influcoder.distill(
        folder / "features", folder / "fresh", earlier=folder / "encoder", decoder=folder / "later", share=0.2
    )
    return folder


@pytest.fixture(scope="module")
def truth(work):
    """The later decoder's influences of the test."""
    encoder = InfluenceEncoder.load(work / "fresh")
    teacher = teacher_of(encoder, Decoder.load(work / "later", device="cpu"))
    return teacher.features(TEST[0], "query").vectors @ teacher.features(TEST[1], "pool").vectors.T


def fidelity(encoder, truth):
    return spearman_rows(truth, encoder.encode_query(TEST[0]) @ encoder.encode_pool(TEST[1]).T).mean()


def test_a_refresh_ranks_better_than_the_old_encoder_and_than_one_of_as_few_gradients(work, truth, tmp_path):
    influcoder.features(work / "later", SAMPLE[0][:20], SAMPLE[1][:40], tmp_path / "few", **SETTINGS)
    anew = influcoder.distill(tmp_path / "few", tmp_path / "anew")
    old, fresh = (InfluenceEncoder.load(work / name) for name in ("encoder", "fresh"))
    found = [fidelity(one, truth) for one in (fresh, old, anew)]
    assert found[0] > found[1] + 0.02, found
    assert found[0] > found[2], found
    assert abs(fresh.agreement.mean - found[0]) < 0.15  # what it says of itself is so


def test_it_is_an_encoder_of_the_later_decoder(work):
    fresh = InfluenceEncoder.load(work / "fresh")
    later = Decoder.load(work / "later", device="cpu").fingerprint
    assert fresh.provenance.decoder.decoder == later.decoder
    student = fresh.provenance.student
    assert student.refreshed_from == InfluenceEncoder.load(work / "encoder").fingerprint
    assert student.refresh_gradients == 60
    told = orjson.loads((work / "fresh" / "metrics.json").read_bytes())
    assert told["gradients"] == {"queries": 20, "pool": 40, "of": 300}
    rows = [sentences(30, 8, "a"), sentences(60, 9, "b")]
    assert influcoder.drift(work / "fresh", work / "later", *rows)["decoder_hash"] == later.decoder


def test_the_vocabulary_is_read_once(work, tmp_path, monkeypatch):
    """Minutes for a model of a large vocabulary."""
    read = []
    whole = decoder_tables.expected_embeddings
    monkeypatch.setattr(decoder_tables, "expected_embeddings", lambda decoder: read.append(decoder) or whole(decoder))
    influcoder.distill(work / "features", tmp_path / "e", earlier=work / "encoder", decoder=work / "later", share=0.2)
    assert len(read) == 1


def test_its_features_serve_the_next_refresh(work, call):
    features = FeaturesFolder(work / "fresh" / "features")
    assert int(np.sum(features.queries.columns["measured"].to_numpy())) == 20
    again = ("--from", work / "fresh", "--features", work / "fresh" / "features", "--decoder", work / "decoder")
    status, out, err = call("distill", *again, "--share", "10%", "--output-dir", work / "back", "--json")
    assert status == 0, err
    assert orjson.loads(out)["gradients"] == {"queries": 10, "pool": 20, "of": 300}
    assert call("run", work / "back" / "config.toml", "--overwrite")[0] == 0


def test_what_does_not_fit_is_refused(work, tmp_path, call):
    def refresh(features="features", decoder="later", **more):
        return influcoder.distill(
            work / features, tmp_path / "no", earlier=work / "encoder", decoder=work / decoder, **more
        )

    with pytest.raises(ConfigError, match="nothing has moved"):
        refresh(decoder="decoder")
    with pytest.raises(StoreMismatch, match=r"distilled from other features.*if it was refreshed"):
        refresh(features="fresh/features")
    with pytest.raises(ConfigError, match="static tier"):
        refresh(recipe="forward")
    with pytest.raises(ConfigError, match="share is 0"):
        refresh(share=0.0)
    encoder = InfluenceEncoder.load(work / "encoder")
    encoder.settings["tier"] = "short"
    with pytest.raises(ConfigError, match="short tier"):
        influcoder.distill(work / "features", tmp_path / "no", earlier=encoder, decoder=work / "later")
    status, _, err = call("distill", "--features", work / "features", "--share", "5%", "--output-dir", tmp_path / "no")
    assert status == 1
    assert "--from" in err


def test_a_common_change_is_carried_to_rows_that_were_not_measured():
    """Rows of one kind change alike: the change of a few is that of all."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.eye(2, 8, dtype=np.float32), 50, axis=0)
    earlier = kinds + 0.1 * rng.normal(size=kinds.shape).astype(np.float32)
    now = 3 * (earlier + 2 * kinds[:, ::-1])
    places = np.array([0, 1, 2, 60, 61, 62])
    found = carried(earlier, places, now[places], unit=False)
    assert np.array_equal(found[places], now[places])
    assert np.linalg.norm(found - now) < 0.3 * np.linalg.norm(earlier - now)
    ones = carried(earlier, places, now[places] / np.linalg.norm(now[places], axis=1, keepdims=True), unit=True)
    assert np.allclose(np.linalg.norm(ones, axis=1), 1, atol=1e-5)
