import errno
import os

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.folders import contents
from influcoder.errors import StoreCorrupt, StoreError, StoreIncomplete, StoreMismatch
from influcoder.provenance import Provenance, TeacherRecord
from influcoder.store.codes import Plain
from influcoder.store.store import FORMAT, Store
from influcoder.store.writer import StoreWriter

ROWS, DIM, SHARD_ROWS = 10, 4, 4
MADE_BY = Provenance(TeacherRecord("t", {"seed": 7, "nested": {"layers": [1, 2]}}))


def made_with(**changes):
    return {"provenance": Provenance(TeacherRecord("t", MADE_BY.teacher.settings | changes))}


def writer(folder, rows=ROWS, **changes):
    code = Plain(changes.pop("dim", DIM), changes.pop("dtype", "float32"))
    plan = {
        "kind": "features",
        "code": code,
        "ids": [f"id-{row}" for row in range(rows)],
        "provenance": MADE_BY,
        "shard_rows": SHARD_ROWS,
    }
    return StoreWriter(folder, **(plan | changes))


def vectors(shard, dim=DIM):
    return np.arange(shard.start * dim, shard.stop * dim, dtype=np.float32).reshape(-1, dim) / 7


def write(made, shard):
    made.write(shard, vectors(shard, made.plan["dim"]), {"norm": np.arange(shard.start, shard.stop, dtype=np.float32)})


def fill(made):
    for shard in made.missing():
        write(made, shard)
    return made.finish()


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    rows=st.integers(1, 20),
    dim=st.integers(1, 9),
    shard_rows=st.integers(1, 25),
    dtype=st.sampled_from(["float16", "float32"]),
)
def test_round_trip(tmp_path_factory, rows, dim, shard_rows, dtype):
    folder = tmp_path_factory.mktemp("store")
    made = writer(folder, rows, dim=dim, shard_rows=shard_rows, dtype=dtype)
    store = fill(made)
    whole = np.concatenate([vectors(shard, dim) for shard in made.shards])
    assert len(store) == rows
    assert store.ids == made.ids
    assert store.columns["norm"].to_pylist() == list(range(rows))
    assert store.vectors().dtype == np.float32
    np.testing.assert_array_equal(store.vectors(), whole.astype(dtype).astype(np.float32))
    assert store.provenance == MADE_BY
    assert not (folder / "plan.json").exists()


def test_missing_names_what_is_not_there(tmp_path):
    made = writer(tmp_path)
    assert [(s.start, s.stop) for s in made.missing()] == [(0, 4), (4, 8), (8, 10)]
    write(made, made.shards[1])
    assert [shard.number for shard in writer(tmp_path).missing()] == [0, 2]


def test_resume_leaves_finished_shards_alone(tmp_path):
    made = writer(tmp_path)
    write(made, made.shards[0])
    before = (tmp_path / "shard-00000.safetensors").stat()
    again = writer(tmp_path)
    store = fill(again)
    after = (tmp_path / "shard-00000.safetensors").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert len(store) == ROWS


def test_half_a_shard_is_made_again(tmp_path):
    fill(writer(tmp_path / "whole"))
    made = writer(tmp_path / "cut")
    write(made, made.shards[0])
    (tmp_path / "cut" / "shard-00000.parquet").unlink()
    assert 0 in [shard.number for shard in writer(tmp_path / "cut").missing()]
    fill(writer(tmp_path / "cut"))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_order_of_writing_changes_no_byte(tmp_path):
    fill(writer(tmp_path / "one"))
    made = writer(tmp_path / "two")
    for shard in reversed(made.shards):
        write(made, shard)
    made.finish()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_finished_store_has_nothing_missing_and_opens_again(tmp_path):
    fill(writer(tmp_path))
    before = contents(tmp_path)
    again = writer(tmp_path)
    assert list(again.missing()) == []
    assert len(again.finish()) == ROWS
    assert contents(tmp_path) == before


@pytest.mark.parametrize("suffix", ["safetensors", "parquet"])
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("place", [0, 100, -1])
def test_flipped_bit_in_a_shard(tmp_path, suffix, number, place):
    fill(writer(tmp_path))
    path = tmp_path / f"shard-{number:05d}.{suffix}"
    flip(path, place)
    with pytest.raises(StoreCorrupt, match=path.name):
        Store(tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "parquet"])
def test_cut_shard(tmp_path, suffix):
    fill(writer(tmp_path))
    path = tmp_path / f"shard-00001.{suffix}"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreCorrupt, match=path.name):
        Store(tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "parquet"])
def test_missing_shard(tmp_path, suffix):
    fill(writer(tmp_path))
    path = tmp_path / f"shard-00001.{suffix}"
    path.unlink()
    with pytest.raises(StoreCorrupt, match=f"{path.name}: missing"):
        Store(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1'])
@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
def test_damaged_json(tmp_path, name, data):
    if name == "manifest.json":
        fill(writer(tmp_path))
    else:
        writer(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StoreCorrupt, match=name):
        writer(tmp_path)
    if name == "manifest.json":
        with pytest.raises(StoreCorrupt, match=name):
            Store(tmp_path)


@pytest.mark.parametrize("text", [b'"rows": 10', b'"dim": 4', b'"seed": 7', b'"teacher"', b"vectors_sha256"])
def test_flipped_bit_in_the_manifest(tmp_path, text):
    fill(writer(tmp_path))
    path = tmp_path / "manifest.json"
    flip(path, path.read_bytes().index(text) + len(text) - 2 + text[-1:].isdigit())
    with pytest.raises(StoreCorrupt, match="manifest"):
        Store(tmp_path)


def test_unfinished_store(tmp_path):
    made = writer(tmp_path)
    write(made, made.shards[0])
    with pytest.raises(StoreIncomplete, match="--resume"):
        Store(tmp_path)


def test_finish_before_all_is_written(tmp_path):
    made = writer(tmp_path)
    write(made, made.shards[0])
    with pytest.raises(StoreError):
        made.finish()
    assert not (tmp_path / "manifest.json").exists()


def test_folder_that_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="not a store"):
        Store(tmp_path)
    with pytest.raises(StoreError, match="not a store"):
        Store(tmp_path / "absent")


DIFFERENCES = [
    ({"dim": 5}, "dim: 4 there, 5 now"),
    ({"dtype": "float16"}, "dtype: 'float32' there, 'float16' now"),
    ({"kind": "other"}, "kind: 'features' there, 'other' now"),
    ({"shard_rows": 3}, "shard_rows: 4 there, 3 now"),
    ({"rows": 9}, "; rows: 10 there, 9 now"),
    (made_with(seed=8), "made_by.teacher.settings.seed: 7 there, 8 now"),
    (made_with(nested={"layers": [1]}), r"made_by.teacher.settings.nested.layers: \[1, 2\] there, \[1\] now"),
    (made_with(extra="x"), "made_by.teacher.settings.extra: None there, 'x' now"),
    ({"provenance": Provenance()}, "made_by.teacher.name: 't' there, None now"),
    ({"ids": [f"other-{row}" for row in range(ROWS)]}, "ids: '[0-9a-f]{64}' there, '[0-9a-f]{64}' now"),
]


@pytest.mark.parametrize(("change", "message"), DIFFERENCES, ids=[message for _, message in DIFFERENCES])
@pytest.mark.parametrize("finished", [False, True])
def test_differing_plan(tmp_path, change, message, finished):
    made = writer(tmp_path)
    if finished:
        fill(made)
    before = contents(tmp_path)
    with pytest.raises(StoreMismatch, match=message):
        writer(tmp_path, **change)
    assert contents(tmp_path) == before


def test_every_difference_is_named(tmp_path):
    writer(tmp_path)
    with pytest.raises(StoreMismatch) as caught:
        writer(tmp_path, dim=5, **made_with(seed=8))
    assert "dim: 4 there, 5 now" in str(caught.value)
    assert "made_by.teacher.settings.seed: 7 there, 8 now" in str(caught.value)


def test_tuples_in_a_plan_are_lists(tmp_path):
    writer(tmp_path, **made_with(layers=(1, 2)))
    writer(tmp_path, **made_with(layers=[1, 2]))


def test_newer_format(tmp_path):
    fill(writer(tmp_path))
    path = tmp_path / "manifest.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"format": FORMAT + 1}))
    with pytest.raises(StoreMismatch, match=f"format {FORMAT + 1}, this version reads {FORMAT}"):
        Store(tmp_path)
    with pytest.raises(StoreMismatch, match=f"format: {FORMAT + 1} there, {FORMAT} now"):
        writer(tmp_path)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_vector_that_is_not_finite(tmp_path, number):
    made = writer(tmp_path)
    bad = vectors(made.shards[1])
    bad[2, 1] = number
    with pytest.raises(StoreError, match="'id-6' is not finite"):
        made.write(made.shards[1], bad, {})
    assert list(contents(tmp_path)) == ["plan.json"]


def test_vector_too_large_for_float16(tmp_path):
    made = writer(tmp_path, dtype="float16")
    bad = vectors(made.shards[0])
    bad[3, 0] = 1e6
    with pytest.raises(StoreError, match="'id-3' is not finite in float16"):
        made.write(made.shards[0], bad, {})


@pytest.mark.parametrize("shape", [(4, 5), (3, 4), (4,), (1, 4, 4)])
def test_wrong_shape(tmp_path, shape):
    made = writer(tmp_path)
    with pytest.raises(StoreError, match=r"shard-00000: vectors are .* expected \(4, 4\)"):
        made.write(made.shards[0], np.zeros(shape, np.float32), {})


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_and_then_resumed(tmp_path, monkeypatch, step):
    fill(writer(tmp_path / "whole"))
    made = writer(tmp_path / "full")
    write(made, made.shards[0])

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        with pytest.raises(StoreError, match="No space left on device"):
            write(made, made.shards[1])
    names = sorted(contents(tmp_path / "full"))
    assert names == ["plan.json", "shard-00000.parquet", "shard-00000.safetensors"]
    fill(writer(tmp_path / "full"))
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


@pytest.mark.parametrize("key", ["rows", "dim", "shards", "sha256"])
def test_manifest_without_a_key(tmp_path, key):
    fill(writer(tmp_path))
    path = tmp_path / "manifest.json"
    manifest = orjson.loads(path.read_bytes())
    del manifest[key]
    path.write_bytes(orjson.dumps(manifest))
    with pytest.raises(StoreCorrupt, match="manifest"):
        Store(tmp_path)


def test_finish_names_the_first_shard_that_is_missing(tmp_path):
    made = writer(tmp_path)
    for shard in made.shards:
        write(made, shard)
    (tmp_path / "shard-00001.safetensors").unlink()
    with pytest.raises(StoreIncomplete, match="1 of 3 shards are not written, shard-00001"):
        made.finish()
    assert [shard.number for shard in made.missing()] == [1]


def test_empty_store(tmp_path):
    store = fill(writer(tmp_path, rows=0))
    assert (len(store), store.ids, store.vectors().shape) == (0, [], (0, DIM))


def test_manifest_that_cannot_be_read(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(StoreError, match=r"manifest\.json: cannot be read"):
        Store(tmp_path)
