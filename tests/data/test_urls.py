"""Files at URLs, by stand-ins that fsspec has in memory and on this disk."""

import gzip
import json

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from influcoder.data.reading import read_examples
from influcoder.errors import DataError, MissingDependency

ROWS = [{"id": f"r{number}", "prompt": f"q{number}", "completion": f"a{number}"} for number in range(50)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def packed(suffix):
    if suffix == "parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(ROWS), sink)
        return sink.getvalue().to_pybytes()
    if suffix == "jsonl.zst":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(LINES)
        return sink.getvalue().to_pybytes()
    return gzip.compress(LINES) if suffix == "jsonl.gz" else LINES


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/corpus", recursive=True)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_every_kind_of_file_at_a_url(memory, tmp_path, suffix, scheme):
    where = "memory://corpus" if scheme == "memory" else f"file://{tmp_path}"
    memory.makedirs("/corpus", exist_ok=True)
    with fsspec.open(f"{where}/data.{suffix}", "wb") as file:
        file.write(packed(suffix))
    assert [one.id for one in read_examples(f"{where}/data.{suffix}")] == [row["id"] for row in ROWS]


def test_folder_and_glob_at_a_url(memory):
    for number in range(3):
        memory.pipe(f"/corpus/{number}/part.jsonl", json.dumps(ROWS[number]).encode())
    memory.pipe("/corpus/README.md", b"not data")
    wanted = ["r0", "r1", "r2"]
    assert [one.id for one in read_examples("memory://corpus")] == wanted
    assert [one.id for one in read_examples("memory://corpus/*/part.jsonl")] == wanted
    assert [one.id for one in read_examples(["memory://corpus/0", "memory://corpus/2/part.jsonl"])] == ["r0", "r2"]


def test_row_that_cannot_be_used_is_named_by_its_url(memory):
    memory.pipe("/corpus/data.jsonl", LINES + b"{cut")
    with pytest.raises(DataError, match=r"memory://(/)?corpus/data\.jsonl:51: not a JSON object"):
        read_examples("memory://corpus/data.jsonl")


@pytest.mark.parametrize("suffix", ["jsonl.gz", "parquet"])
def test_cut_file_at_a_url(memory, suffix):
    memory.pipe(f"/corpus/data.{suffix}", packed(suffix)[:-20])
    with pytest.raises(DataError, match=rf"corpus/data\.{suffix}"):
        read_examples(f"memory://corpus/data.{suffix}")


@pytest.mark.parametrize("url", ["memory://corpus/absent.jsonl", "memory://corpus/*.parquet"])
def test_nothing_at_a_url(memory, url):
    memory.pipe("/corpus/data.jsonl", LINES)
    with pytest.raises(DataError, match=r"no such file|no file matches"):
        read_examples(url)


def test_hub_while_offline_names_the_variable():
    with pytest.raises(DataError, match=r"hf://datasets/a/b: cannot be read: .*HF_HUB_OFFLINE is set"):
        read_examples("hf://datasets/a/b")


def test_hub_online_names_the_token(monkeypatch):
    from huggingface_hub import HfFileSystem, constants

    def gated(*_args, **_kwargs):
        raise PermissionError("403 Client Error\nlong\nstory")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfFileSystem, "resolve_path", gated)
    with pytest.raises(DataError, match=r"403 Client Error. .*HF_TOKEN"):
        read_examples("hf://datasets/a/b")


def test_missing_package_comes_with_the_command(monkeypatch):
    def missing(_):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingDependency, match=r"s3://a/b\.parquet: .*pip install s3fs"):
        read_examples("s3://a/b.parquet")


def test_unknown_kind_of_url():
    with pytest.raises(DataError, match="gopher://a/b"):
        read_examples("gopher://a/b")
