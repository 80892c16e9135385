"""Indexes and selections on the Hugging Face hub, without a network."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from helpers.hub import write_proof
from helpers.linear_world import distilled
from influcoder.attribution.rule import Rule
from influcoder.attribution.selection import Selection
from influcoder.data.reading import read_examples
from influcoder.errors import ConfigError, ModelError, StoreCorrupt, StoreMismatch
from influcoder.indexes.index import Index
from influcoder.store.files import read_json, write_sealed

ROWS = [{"id": f"r{n}", "question": f"question {n}", "answer": f"answer {n}", "level": n} for n in range(6)]


@pytest.fixture(scope="module")
def index(tokenizer, tmp_path_factory):
    return Index.build(distilled(tokenizer), read_examples(ROWS), tmp_path_factory.mktemp("index"))


@pytest.fixture
def selection(index):
    return Selection.of(index, np.arange(6, dtype=np.float32)[None], Rule(rows=2))


def test_a_pushed_index_answers_as_the_one_here(index, hub, tmp_path):
    write_proof(tmp_path / "proof")
    address = index.push_to_hub("owner/index", proof=tmp_path / "proof", license="cc-by-4.0")
    assert address == "https://hub/owner/index/commit/1"
    there = Index.from_pretrained("owner/index")
    vectors = index.encoder.encode_query(read_examples(ROWS))
    np.testing.assert_array_equal(there.scores(vectors), index.scores(vectors))
    assert not list(there.folder.glob("index.*"))  # FAISS reads without a check
    card = (there.folder / "README.md").read_text()
    for told in (
        "license: cc-by-4.0",
        "| per_query_spearman |",
        "| found | +0.50 | 80%",
        "## Limits",
        "Index.from_pre",
    ):
        assert told in card
    (_, asked) = hub.asked[-1]
    assert asked["repo_type"] == "dataset"
    assert not any(pattern.endswith((".bin", ".pkl", ".pt", ".py", ".faiss", "*")) for pattern in asked["patterns"])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def sealed_as(format_number):
    def change(path):
        record = read_json(path, "")
        del record["sha256"]
        write_sealed(path, record | {"format": format_number})

    return change


@pytest.mark.parametrize(
    ("name", "change", "error", "told"),
    [
        ("shard-00000.safetensors", flip, StoreCorrupt, "bytes"),
        ("encoder/head.safetensors", flip, StoreCorrupt, "head"),
        ("manifest.json", sealed_as(99), StoreMismatch, "format 99"),
        ("more.pkl", lambda path: path.write_bytes(b"x"), ModelError, "a .pkl file may run code"),
        ("encoder/code.py", lambda path: path.write_bytes(b"x"), ModelError, "a .py file may run code"),
        ("encoder/pytorch_model.bin", lambda path: path.write_bytes(b"x"), ModelError, "a .bin file may run code"),
    ],
)
def test_an_index_that_cannot_be_trusted_is_refused(index, hub, name, change, error, told):
    index.push_to_hub("owner/index")
    change(hub.folder / "owner/index" / name)
    with pytest.raises(error, match=told):
        Index.from_pretrained("owner/index")


def test_a_pushed_selection_is_the_one_that_is_loaded(selection, hub):
    selection.push_to_hub("owner/rows", license="cc-by-4.0", private=True)
    loaded = Selection.from_pretrained("owner/rows")
    assert loaded.kept_ids == selection.kept_ids == ["r4", "r5"]
    assert loaded.reasons == selection.reasons
    assert loaded.index is None  # where it lay is nobody's business
    folder = hub.folder / "owner/rows"
    assert pq.read_table(folder / "kept.parquet").to_pylist() == ROWS[4:]
    card = (folder / "README.md").read_text()
    assert "license: cc-by-4.0" in card
    assert "2 of 6 rows are kept" in card
    assert loaded.rethreshold(rows=3).kept_ids == ["r3", "r4", "r5"]
    with pytest.raises(ConfigError, match="which index"):
        loaded.to_dataset()


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("selection.parquet", flip, StoreCorrupt),
        ("kept.parquet", flip, StoreCorrupt),
        ("selection.json", sealed_as(99), StoreMismatch),
        ("rows.py", lambda path: path.write_bytes(b"x"), ModelError),
    ],
)
def test_a_selection_that_cannot_be_trusted_is_refused(selection, hub, name, change, error):
    selection.push_to_hub("owner/rows")
    change(hub.folder / "owner/rows" / name)
    with pytest.raises(error):
        Selection.from_pretrained("owner/rows")


def test_what_the_hub_has_not_got_is_one_error(hub, monkeypatch):
    import huggingface_hub

    def nothing(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    with pytest.raises(ModelError, match=r"owner/none: no folder with manifest\.json here"):
        Index.from_pretrained("owner/none")
    with pytest.raises(ModelError, match=r"owner/none: no folder with selection\.json here"):
        Selection.from_pretrained("owner/none")
