"""Stores that version 0.1.0 wrote are read, changed and gone on with; they lie in `written_by_0.1.0`."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.folders import contents
from helpers.given_vectors import Hashed, pool
from influcoder.errors import StoreMismatch
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index
from influcoder.maths.lowrank import LowRankCode
from influcoder.provenance import Provenance, TeacherRecord
from influcoder.store import writer as writing
from influcoder.store.codes import Plain
from influcoder.store.store import Store
from influcoder.store.writer import StoreWriter
from influcoder.teachers.teacher import CODES


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "__version__", "0.1.0")
    return Path(shutil.copytree(Path(__file__).parent / "written_by_0.1.0", tmp_path / "there"))


def rows(dim):
    return np.random.default_rng(1).standard_normal((10, dim)).astype(np.float32)


def half_precision():
    ids = [f"id-{number}" for number in range(10)]
    return {
        "kind": "features",
        "code": Plain(6),
        "ids": ids,
        "provenance": Provenance(TeacherRecord("t")),
        "shard_rows": 4,
    }


def write_missing(folder):
    writer = StoreWriter(folder, **half_precision())
    for shard in writer.missing():
        norms = np.arange(shard.start, shard.stop, dtype=np.float32)
        writer.write(shard, rows(6)[shard.start : shard.stop], {"norm": norms})
    return writer.finish()


def test_vectors_are_read(there):
    np.testing.assert_array_equal(Store(there / "plain").vectors(), rows(6))
    code = LowRankCode([(3, 2), (2, 4)], 1)
    kept = code.encode(rows(14)).astype(np.float16)
    np.testing.assert_allclose(Store(there / "low-rank").vectors(CODES), code.decode(kept), atol=1e-2)


def test_code_that_the_reader_does_not_know_is_refused(there):
    with pytest.raises(StoreMismatch, match="stored as 'low-rank', expected one of plain"):
        Store(there / "low-rank").vectors()


def test_begun_features_are_gone_on_with(there, tmp_path):
    first = (there / "begun" / "shard-00000.safetensors").stat().st_mtime_ns
    write_missing(there / "begun")
    assert (there / "begun" / "shard-00000.safetensors").stat().st_mtime_ns == first
    write_missing(tmp_path / "new")
    assert contents(there / "begun") == contents(tmp_path / "new")


def test_run_of_another_version_is_refused_with_the_remedy(there, monkeypatch):
    monkeypatch.setattr(writing, "__version__", "9.9.9")
    with pytest.raises(StoreMismatch, match=r"package: '0\.1\.0' there, '9\.9\.9' now\. .*--overwrite"):
        write_missing(there / "begun")


def test_index_is_searched_and_changed(there):
    folder = there / "index-int8"
    np.testing.assert_allclose(Index(folder).vectors, Hashed().encode_pool(pool(0, 20)), atol=0.05)
    indexing.add(Index(folder).store, Hashed(), pool(15, 30))
    indexing.remove(Index(folder).store, ["id-3"])
    assert Index(folder).ids == [f"id-{number}" for number in range(30) if number != 3]
    queries = Hashed().encode_query(pool(29, 30))
    assert Index(folder).search(queries, 1).rows[0, 0] == np.argmax(Index(folder).vectors @ queries[0])
