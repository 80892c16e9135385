"""Encoders on the Hugging Face hub, without a network: its client's cache, and a hub that keeps what is pushed."""

import shutil

import huggingface_hub
import numpy as np
import pytest

from helpers.hub import write_proof
from helpers.linear_world import distilled
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, InflucoderError, ModelError, StoreCorrupt, StoreMismatch
from influcoder.provenance import DecoderRecord, Provenance
from influcoder.student.encoder import InfluenceEncoder

TEXTS = [Example("a", "Where is Paris?", "In France.")]
COMMIT = "c" * 40


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders") / "encoder"
    distilled(tokenizer).save_pretrained(folder)
    (folder / "training.parquet").write_bytes(b"hashes")
    return folder


@pytest.fixture
def cache(saved, tmp_path):
    """A cache that holds owner/encoder as the hub's client lays it out: each file a link to a blob."""
    repository = tmp_path / "cache" / "models--owner--encoder"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for path in saved.rglob("*"):
        if path.is_file():
            blob = repository / "blobs" / str(path.relative_to(saved)).replace("/", "-")
            link = repository / "snapshots" / COMMIT / path.relative_to(saved)
            blob.parent.mkdir(exist_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, blob)
            link.symlink_to(blob)
    return tmp_path / "cache"


def test_an_encoder_is_loaded_from_the_hub(saved, cache):
    found = InfluenceEncoder.from_pretrained("owner/encoder", cache_dir=cache)
    assert found.folder == cache / "models--owner--encoder" / "snapshots" / COMMIT
    there = InfluenceEncoder.load(saved)
    np.testing.assert_array_equal(found.encode_pool(TEXTS), there.encode_pool(TEXTS))


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_revision_is_loaded(cache, revision):
    assert InfluenceEncoder.from_pretrained("owner/encoder", cache_dir=cache, revision=revision).tier == "static"


def test_what_the_hub_gives_is_checked(cache):
    blob = next(cache.rglob("blobs/head.safetensors"))
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreCorrupt, match="head"):
        InfluenceEncoder.from_pretrained("owner/encoder", cache_dir=cache)


@pytest.mark.parametrize("name", ["owner/other", "nowhere", "not a name", "/no/such/folder", "", "a/b/c"])
def test_what_is_nowhere_is_one_error(cache, name):
    with pytest.raises(InflucoderError, match=r"influcoder\.json") as told:
        InfluenceEncoder.from_pretrained(name, cache_dir=cache)
    assert "\n" not in str(told.value)


def test_a_revision_that_is_not_there(cache):
    with pytest.raises(ModelError, match="owner/encoder"):
        InfluenceEncoder.from_pretrained("owner/encoder", cache_dir=cache, revision="b" * 40)


def test_a_folder_has_no_revision(saved):
    with pytest.raises(ConfigError, match="has no revision 'main'"):
        InfluenceEncoder.from_pretrained(str(saved), revision="main")


def test_the_hub_is_asked_as_told_and_for_safe_files_alone(saved, monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **given: asked.update(given, name=name) or str(saved)
    )
    InfluenceEncoder.from_pretrained("owner/encoder", revision="v1", token="secret", cache_dir=tmp_path)
    patterns = asked.pop("allow_patterns")
    expected = {"revision": "v1", "token": "secret", "cache_dir": tmp_path, "repo_type": "model"}
    assert asked == {"name": "owner/encoder"} | expected
    assert not any(pattern.endswith((".bin", ".pt", ".pkl", ".py", "*")) for pattern in patterns)


def test_a_pushed_encoder_is_the_one_that_is_loaded(saved, hub):
    encoder = InfluenceEncoder.load(saved)
    assert encoder.push_to_hub("owner/encoder") == "https://hub/owner/encoder/commit/1"
    there = hub.folder / "owner/encoder"
    again = InfluenceEncoder.from_pretrained(there)
    assert again.fingerprint == encoder.fingerprint
    assert (there / "training.parquet").read_bytes() == b"hashes"  # so that no test is held on what it was trained on
    assert 'from_pretrained("owner/encoder")' in (there / "README.md").read_text()


def test_a_push_does_as_told(saved, hub):
    given = {"commit_message": "m", "private": True, "token": "secret", "branch": "try", "create_pr": True}
    assert InfluenceEncoder.load(saved).push_to_hub("encoder", **given) == "https://hub/me/encoder/commit/1"
    assert hub.asked == [
        ("token", "secret"),
        ("repo", {"private": True, "exist_ok": True, "repo_type": "model"}),
        ("branch", {"branch": "try", "exist_ok": True, "repo_type": "model"}),
        ("upload", {"commit_message": "m", "revision": "try", "create_pr": True, "repo_type": "model"}),
    ]


def test_a_push_that_is_refused_is_one_error(saved, hub):
    with pytest.raises(ModelError, match=r"owner/forbidden: the hub refuses the encoder: 404 Client Error\."):
        InfluenceEncoder.load(saved).push_to_hub("owner/forbidden")


def test_the_card_tells_what_was_proved_and_under_which_licence(saved, hub, tmp_path):
    write_proof(tmp_path / "proof")
    InfluenceEncoder.load(saved).push_to_hub("owner/proved", proof=tmp_path / "proof", license="apache-2.0")
    card = (hub.folder / "owner/proved" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "| found | +0.50 | 80% | 60% to 95% |" in card
    (tmp_path / "proof" / "metrics.json").write_text('{"rows": 3}')
    with pytest.raises(StoreMismatch, match="no proof"):
        InfluenceEncoder.load(saved).push_to_hub("owner/not-proved", proof=tmp_path / "proof")


def test_another_decoder_is_refused(saved, decoder):
    loaded = InfluenceEncoder.load(saved)
    loaded.provenance = Provenance(decoder=DecoderRecord("0" * 64, "0" * 64))
    loaded.save(saved.parent / "other")
    with pytest.raises(ModelError, match="distilled from a decoder with weights 00000000"):
        InfluenceEncoder.from_pretrained(saved.parent / "other", decoder=decoder)
