"""How an index is made, shared, resumed and changed, with vectors that are given."""

import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest

from helpers.folders import contents
from helpers.given_vectors import ROWS, SHARD_ROWS, Hashed, build, holds, pool
from influcoder.data.examples import Example
from influcoder.errors import StoreCorrupt, StoreError, StoreMismatch
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index
from influcoder.runners.share import Share
from influcoder.store.store import Store


class Counting(Hashed):
    encoded = 0

    def encode_pool(self, examples):
        self.encoded += len(examples)
        return super().encode_pool(examples)


@pytest.fixture
def built(tmp_path):
    build(tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize("code", ["float16", "int8"])
@pytest.mark.parametrize("rows", [1, SHARD_ROWS - 1, SHARD_ROWS, SHARD_ROWS + 1, ROWS])
def test_a_stream_becomes_an_index(tmp_path, rows, code):
    store, _ = build(tmp_path, pool(0, rows), code=code)
    assert [shard["rows"] for shard in store.manifest["shards"]] == [
        min(SHARD_ROWS, rows - start) for start in range(0, rows, SHARD_ROWS)
    ]
    index = Index(tmp_path)
    assert index.ids == [one.id for one in pool(0, rows)]
    np.testing.assert_allclose(index.vectors, Hashed().encode_pool(pool(0, rows)), atol=0.05)


def test_shares_make_the_same_bytes_as_one_process(tmp_path, built):
    for turn in (2, 0):
        assert build(tmp_path / "shared", share=Share(turn, 3))[0] is None
        with pytest.raises(StoreError, match="unfinished"):
            Index(tmp_path / "shared")
    assert build(tmp_path / "shared", share=Share(1, 3))[0] is not None
    assert contents(tmp_path / "shared") == contents(built)


def test_only_missing_shards_are_made_again(tmp_path, built):
    for place, name in enumerate(["shard-00002.safetensors", "shard-00004.parquet"], 1):
        (built / "manifest.json").unlink()
        (built / name).unlink()
        encoder = Counting()
        build(built, encoder=encoder)
        assert encoder.encoded == SHARD_ROWS, place
    build(tmp_path / "calm")
    assert contents(built) == contents(tmp_path / "calm")


def test_finished_index_is_left_alone(built):
    before, encoder = contents(built), Counting()
    build(built, encoder=encoder)
    assert (contents(built), encoder.encoded) == (before, 0)


class Other(Hashed):
    fingerprint = "e" * 64


OTHERS = [
    (r"made_by.encoder: 'f{64}' there, 'e{64}' now", {"encoder": Other()}),
    (r"dtype: 'float16' there, 'int8' now", {"code": "int8"}),
    (
        r"shard-00003: made from rows with hash .* the input has .*--overwrite",
        {"examples": [*pool(0, 50), *pool(51, 101)]},
    ),
    (r"shard-00006: made from rows", {"examples": pool(0, ROWS - 1)}),
    (r"shard-00006: made from rows", {"examples": pool(0, ROWS + 12)}),
]


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(("message", "changes"), OTHERS, ids=[message for message, _ in OTHERS])
def test_resumed_with_something_else(built, message, changes, finished):
    if not finished:
        (built / "manifest.json").rename(built / "plan.json")
        (built / "shard-00005.parquet").unlink()
    with pytest.raises(StoreMismatch, match=message):
        build(built, **changes)


def test_finished_index_resumed_with_whole_shards_less(built):
    with pytest.raises(StoreMismatch, match=r"rows: 100 there, 96 now"):
        build(built, pool(0, 96))


def test_memory_does_not_grow_with_the_pool(tmp_path):
    def peak(rows):
        stream = (Example(f"{n}", "p" * 500, f"{n}" * 100) for n in range(rows))
        tracemalloc.start()
        indexing.build(Hashed(), stream, tmp_path / str(rows), shard_rows=256)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(300)
    assert peak(4 * indexing.SAMPLE_ROWS) < 1.2 * peak(indexing.SAMPLE_ROWS)


def test_code_is_chosen_by_what_it_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr(indexing, "SAMPLE_ROWS", 64)
    store, measured = build(tmp_path / "a", code="auto")
    assert list(measured) == ["float16", "int8", "int4"]
    assert measured["float16"]["bytes"] == 2 * measured["int8"]["bytes"] == 4 * measured["int4"]["bytes"]
    assert measured["float16"]["recall_at_10"] >= measured["int4"]["recall_at_10"]
    assert store.manifest["code"]["name"] == indexing.choose_code(measured)
    assert build(tmp_path / "b", pool(0, 63), code="auto")[1] == {}


@pytest.mark.parametrize(
    ("int8", "int4", "chosen"),
    [((1, 1), (1, 1), "int4"), ((1, 1), (0.9, 1), "int8"), ((1, 1), (1, 0.9), "int8"), ((0.9, 1), (0.9, 1), "float16")],
)
def test_smallest_code_that_is_good_enough(int8, int4, chosen):
    keys = ("recall_at_10", "per_query_spearman")
    assert (
        indexing.choose_code({"int8": dict(zip(keys, int8, strict=True)), "int4": dict(zip(keys, int4, strict=True))})
        == chosen
    )


def test_scales_that_changed_are_found(tmp_path):
    build(tmp_path, code="int8")
    path = tmp_path / "code.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match=r"code\.safetensors"):
        _ = Index(tmp_path).code


def test_rows_are_added_once(built):
    encoder = Counting()
    for expected in ({"added": 40, "already_there": 10}, {"added": 0, "already_there": 50}):
        _, counts = indexing.add(Index(built).store, encoder, pool(90, 140))
        assert counts == expected
        assert holds(built, pool(0, 140))
    assert encoder.encoded == 40


def test_what_a_stopped_add_has_left_is_used(built):
    store = Index(built).store
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(indexing, "change", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            indexing.add(store, Hashed(), pool(100, 140))
    assert holds(built, pool())
    encoder = Counting()
    indexing.add(Index(built).store, encoder, pool(100, 140))
    assert encoder.encoded == 0
    assert holds(built, pool(0, 140))


def test_leftovers_of_other_rows_are_not_used(built):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(indexing, "change", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            indexing.add(Index(built).store, Hashed(), pool(100, 140))
    indexing.add(Index(built).store, Hashed(), pool(110, 120))
    assert holds(built, [*pool(), *pool(110, 120)])
    assert len(list(built.glob("shard-*"))) == 2 * 8


@pytest.mark.parametrize("gone", [[3], [0, 15, 16, 99], range(16, 32), range(100), [7, 8, 1000]])
def test_forgotten_rows_are_nowhere_on_disk(built, gone):
    kept = [one for n, one in enumerate(pool()) if n not in gone]
    _, counts = indexing.remove(Index(built).store, [f"id-{n}" for n in gone])
    assert counts == {"removed": ROWS - len(kept), "not_there": len(gone) - (ROWS - len(kept))}
    assert holds(built, kept)
    texts = [row for path in built.glob("*.parquet") for row in pq.read_table(path)["completion"].to_pylist()]
    assert sorted(texts) == sorted(one.completion for one in kept)
    assert len(list(built.glob("shard-*"))) == 2 * len(Store(built).manifest["shards"])


def test_names_of_shards_are_never_used_again(built):
    before = {path.name for path in built.glob("shard-*")}
    indexing.remove(Index(built).store, ["id-99"])
    indexing.add(Index(built).store, Hashed(), pool(99, 100))
    new = {path.name for path in built.glob("shard-*")} - before
    assert sorted(new) == [f"shard-{n:05d}.{suffix}" for n in (7, 8) for suffix in ("parquet", "safetensors")]


def test_removed_and_added_again(built):
    indexing.remove(Index(built).store, ["id-5"])
    changed = Example("id-5", "new prompt", "new completion")
    indexing.add(Index(built).store, Hashed(), [changed])
    assert holds(built, [*pool(0, 5), *pool(6), changed])


def test_changed_index_is_not_resumed_as_if_it_were_new(built):
    indexing.remove(Index(built).store, ["id-5"])
    with pytest.raises(StoreMismatch, match=r"added to or removed.*--overwrite"):
        build(built)


def test_reader_of_the_index_as_it_was_reads_on(built):
    reader = Index(built)
    vectors = reader.vectors
    indexing.remove(Index(built).store, [f"id-{n}" for n in range(50)])
    np.testing.assert_array_equal(
        np.concatenate([reader.store.mapped(one)[0] for one in reader.shards[-3:]]), vectors[64:]
    )
