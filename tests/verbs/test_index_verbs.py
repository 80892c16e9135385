"""The verbs of the index: add, remove, score, approximate; and the faults that they meet."""

import errno
import os

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from helpers.folders import contents
from helpers.given_vectors import DIM, Fixed, Hashed, build, holds, pool
from influcoder.attribution.search import search
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, StoreCorrupt, StoreError, StoreMismatch
from influcoder.indexes.index import Index
from influcoder.store.output_folder import Folder, claim
from influcoder.verbs import index as index_verbs
from influcoder.verbs.score import write_scores

LARGE = 10_000


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    monkeypatch.setattr(Index, "encoder", Hashed())


@pytest.fixture
def built(tmp_path):
    build(tmp_path / "index")
    return Index(tmp_path / "index").ready().folder


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """An index with IVF-PQ, the queries that its recall was measured with, and what was measured."""
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((rows, 4)).astype(np.float32) for rows in (LARGE, 100))
    examples = [Example(str(n), "p", "c") for n in range(LARGE)]
    index = Index.build(Fixed(vectors), examples, tmp_path_factory.mktemp("large"), code="int8")
    return index, queries, index.approximate.make(index, queries)


def test_added_and_removed_rows_are_counted_and_found(built):
    found = index_verbs.change_index(built, add=iter(pool(95, 110)), remove=["id-3", "nowhere"])
    assert found == {"rows": 109, "removed": 1, "not_there": 1, "added": 10, "already_there": 5}
    assert holds(built, [*pool(0, 3), *pool(4, 110)])
    assert orjson.loads((built / "metrics.json").read_bytes()) == found
    queries = Hashed().encode_pool(pool(0, 2))
    approximate, exact = Index(built).search_approximately(queries, 109), Index(built).search(queries, 109)
    np.testing.assert_array_equal(approximate.rows, exact.rows)


def test_faiss_index_of_forgotten_rows_is_gone_before_they_are(built, monkeypatch):
    def stopped(*_):
        assert not (built / "index.faiss").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("influcoder.indexes.build.change", stopped)
    with pytest.raises(KeyboardInterrupt):
        index_verbs.change_index(built, remove=["id-3"])


def test_second_writer_is_refused(built):
    before = contents(built)
    with claim(built, resume=True), pytest.raises(StoreError, match="another run is writing here"):
        index_verbs.change_index(built, remove=["id-3"])
    assert contents(built) == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("what", ["build", "add", "remove"])
def test_full_disk(tmp_path, built, monkeypatch, what, step):
    """At whatever write the disk is full: a clear error, an index as it was, and the same command goes on."""
    work = {
        "build": lambda: build(tmp_path / "new"),
        "add": lambda: index_verbs.change_index(built, add=iter(pool(100, 140))),
        "remove": lambda: index_verbs.change_index(built, remove=["id-3", "id-40"]),
    }[what]
    done, calls, real = False, 0, getattr(os, step)
    for allowed in range(60):
        calls = 0

        def full(*arguments, allowed=allowed):
            nonlocal calls
            calls += 1
            if calls > allowed:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(os, step, full)
            try:
                work()
            except StoreError as error:
                message = str(error)
            else:
                message, done = "No space left on device", True
        assert "No space left on device" in message
        if what != "build":
            rows = len(Index(built))
            before, after = {"add": (100, 140), "remove": (100, 98)}[what]
            assert rows in (before, after)
            gone = {3, 40} if rows == 98 else set()
            assert holds(built, [one for n, one in enumerate(pool(0, max(rows, 100))) if n not in gone])
        if done:
            break
    assert done
    if what == "build":
        assert contents(tmp_path / "new") == {
            name: one for name, one in contents(built).items() if name not in ("index.faiss", "index.json")
        }


def test_scores_of_the_whole_pool(built, tmp_path):
    asked = [Example("q/1", "a", "b"), Example("id", "c", "d")]
    found = write_scores(Index(built), asked, Folder(tmp_path / "scores"))
    assert (found["rows"], found["queries"]) == (100, 2)
    table = pq.read_table(tmp_path / "scores" / "scores.parquet")
    assert table.column_names == ["id", "score:q/1", "score:id"]
    assert table["id"].to_pylist() == [one.id for one in pool()]
    expected = Index(built).scores(Hashed().encode_query(asked))
    np.testing.assert_array_equal(np.stack([table[1].to_numpy(), table[2].to_numpy()]), expected)
    assert pq.ParquetFile(tmp_path / "scores" / "scores.parquet").num_row_groups == 7


def test_scores_of_some_of_the_pool(built, tmp_path):
    found = write_scores(Index(built), pool(0, 1), Folder(tmp_path / "scores"), where="kind=1")
    table = pq.read_table(tmp_path / "scores" / "scores.parquet")
    assert table["id"].to_pylist() == [one.id for one in pool() if one.metadata["kind"] == 1]
    assert found["rows"] == table.num_rows == 33


def test_ivf_pq_finds_what_its_measured_recall_says(large):
    index, queries, facts = large
    found, exact = Index(index.folder).search_approximately(queries, 10), index.search(queries, 10)
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(exact.rows, found.rows, strict=True)])
    tried = facts["recall_at_10"]
    assert recall == pytest.approx(tried[str(facts["lists_searched"])])
    assert recall >= 0.9
    opponents = index.search_approximately(queries, 10, opponents=True)
    assert (opponents.scores[:, 0] < 0).all()
    assert (np.diff(opponents.scores, axis=1) >= 0).all()


def test_ivf_pq_of_few_rows_is_refused(built):
    with pytest.raises(ConfigError, match="has 100 rows; IVF-PQ needs 9984"):
        index_verbs.change_index(built, add=iter(pool(0, 1)), approximate=True)


def test_ivf_pq_gives_as_many_rows_as_are_asked_for(large):
    index, queries, _ = large
    shortlist = index.approximate.shortlist(queries[:3], 9000)
    assert all(len(set(rows)) == 9000 and rows.min() >= 0 for rows in shortlist)
    found, exact = index.search_approximately(queries[:3], 10**6), index.search(queries[:3], 10**6)
    assert found.rows.shape == (3, LARGE)
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-5, atol=1e-5)


def test_ivf_pq_of_other_rows_is_refused(built):
    made = Index(built)
    index_verbs.change_index(built, add=iter(pool(100, 101)))
    with pytest.raises(StoreMismatch, match="of other rows than the index has now"):
        made.search_approximately(np.ones((1, DIM), np.float32), 1)


def test_search_by_the_approximate_index(built):
    index, asked = Index(built), pool(0, 3)
    exact, found = (search(index, asked, k=5, approximate=one) for one in (False, True))
    assert [[hit.row for hit in hits] for hits in exact] == [[hit.row for hit in hits] for hits in found]
    with pytest.raises(ConfigError, match="leave --approximate out"):
        search(index, asked, where="kind=1", approximate=True)
    assert all(hit.example.metadata["kind"] == 2 for hit in search(index, asked, where="kind=2")[0])


@pytest.mark.parametrize("name", ["index.faiss", "shard-00003.parquet", "shard-00002.safetensors"])
def test_verify_reads_everything(built, name):
    Index(built).verify()
    path = built / name
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    with pytest.raises(StoreCorrupt, match=name):
        Index(built).verify()
