"""The index against brute force, and what happens to damaged or foreign ones."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.given_vectors import DIM, Fixed, whole_numbers
from helpers.linear_world import distilled, splits
from influcoder.data.examples import Example
from influcoder.errors import ConfigError, InflucoderError, StoreCorrupt, StoreError, StoreMismatch
from influcoder.indexes import build as index_job
from influcoder.indexes import build as indexing
from influcoder.indexes.index import Index
from influcoder.provenance import Provenance
from influcoder.store.codes import Plain
from influcoder.store.writer import StoreWriter


def pool_of(rows):
    return [Example(str(n), f"prompt {n}", f"completion {n}", (("user", "u"),), {"kind": n}) for n in range(rows)]


def build(folder, vectors):
    return Index.build(Fixed(np.asarray(vectors, np.float32)), pool_of(len(vectors)), folder, code="float16")


def brute(vectors, queries, k, opponents=False):
    scores = queries @ vectors.T
    order = np.argsort(scores if opponents else -scores, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(scores, order, axis=1)


@pytest.fixture
def index(tmp_path):
    return build(tmp_path / "index", whole_numbers(40))


@given(
    rows=st.integers(1, 40),
    k=st.integers(1, 50),
    seed=st.integers(0, 999),
    opponents=st.booleans(),
    high=st.integers(1, 5),
)
def test_search_is_brute_force(tmp_path_factory, rows, k, seed, opponents, high):
    vectors, queries = whole_numbers(rows, seed, high=high), whole_numbers(3, seed + 1, high=high)
    index = build(tmp_path_factory.mktemp("index"), vectors)
    found = index.search(queries, k, opponents=opponents)
    expected_rows, expected_scores = brute(vectors, queries, k, opponents)
    np.testing.assert_array_equal(found.scores, expected_scores)
    np.testing.assert_array_equal(found.rows, expected_rows)
    np.testing.assert_array_equal(index.scores(queries), queries @ vectors.T)


@pytest.mark.parametrize("opponents", [False, True])
@pytest.mark.parametrize("k", [1, 3, 10, 100])
def test_ties_go_by_row(tmp_path, k, opponents):
    index = build(tmp_path / "index", np.ones((50, DIM)))
    found = index.search(np.ones((2, DIM), np.float32), k, opponents=opponents)
    assert found.rows.tolist() == [list(range(min(k, 50)))] * 2


def test_ties_at_the_edge_of_k_go_by_row(tmp_path):
    vectors = np.ones((300, DIM))
    vectors[[7, 250]] = 2
    found = build(tmp_path / "index", vectors).search(np.ones((1, DIM), np.float32), 5)
    assert found.rows.tolist() == [[7, 250, 0, 1, 2]]


def test_opponents_are_the_proponents_of_the_opposite(index):
    queries = whole_numbers(4, 3)
    opponents, opposite = index.search(queries, 7, opponents=True), index.search(-queries, 7)
    np.testing.assert_array_equal(opponents.rows, opposite.rows)
    np.testing.assert_array_equal(opponents.scores, -opposite.scores)


def test_all_opponents_are_all_proponents_backwards(tmp_path):
    vectors = np.arange(1, 31, dtype=np.float32)[:, None] * np.ones(DIM, np.float32)  # no ties
    index = build(tmp_path / "index", vectors)
    query = np.ones((1, DIM), np.float32)
    assert index.search(query, 30, opponents=True).rows[0].tolist() == index.search(query, 30).rows[0].tolist()[::-1]


def test_asking_for_more_than_there_is_gives_all(index):
    assert sorted(index.search(whole_numbers(1), 1000).rows[0].tolist()) == list(range(40))


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one(index, k):
    with pytest.raises(ConfigError, match=f"k is {k}, expected at least 1"):
        index.search(whole_numbers(1), k)


@pytest.mark.parametrize("shape", [(1, DIM - 1), (1, DIM + 1), (DIM,), (1, 1, DIM)])
def test_queries_of_another_width(index, shape):
    with pytest.raises(ConfigError, match=rf"expected \(n, {DIM}\)"):
        index.search(np.zeros(shape, np.float32), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_query_that_is_not_finite(index, value):
    queries = whole_numbers(2)
    queries[1, 2] = value
    with pytest.raises(ConfigError, match="not finite"):
        index.search(queries, 1)


def test_index_of_one_row(tmp_path):
    index = build(tmp_path / "index", whole_numbers(1))
    assert len(index) == 1
    assert index.search(whole_numbers(3, 1), 5).rows.tolist() == [[0]] * 3


def test_rows_hold_their_examples_whole(index):
    for row in (0, 17, 39):
        example, expected = index.example(row), pool_of(40)[row]
        assert example == expected
        assert example.metadata == expected.metadata
    assert index.ids == [str(n) for n in range(40)]


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return distilled(tokenizer)


@pytest.fixture
def real(encoder, tokenizer, tmp_path):
    return Index.build(encoder, splits(tokenizer)[2].pool, tmp_path / "real")


def test_index_keeps_the_encoder_that_made_it(real, encoder):
    kept = Index(real.folder).encoder
    assert kept.fingerprint == encoder.fingerprint
    examples = pool_of(3)
    np.testing.assert_array_equal(kept.encode_query(examples), encoder.encode_query(examples))


def test_another_encoder_in_its_place_is_refused(real, encoder, tokenizer):
    other = distilled(tokenizer, seed=5)
    shutil.rmtree(real.folder / "encoder")
    other.save(real.folder / "encoder")
    with pytest.raises(StoreMismatch, match=f"{encoder.fingerprint[:12]}.*{other.fingerprint[:12]}"):
        _ = Index(real.folder).encoder


def test_lost_encoder_is_named(real):
    shutil.rmtree(real.folder / "encoder")
    with pytest.raises(InflucoderError, match="encoder"):
        _ = Index(real.folder).encoder


def test_damaged_encoder_is_refused(real):
    flip(real.folder / "encoder" / "head.safetensors")
    with pytest.raises(StoreCorrupt):
        _ = Index(real.folder).encoder


def flip(path, place=-20):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("place", [0, 30, -20, -1])
def test_flipped_byte_in_the_faiss_file(index, place):
    flip(index.folder / "index.faiss", place)
    for read in (lambda: Index(index.folder).search_approximately(whole_numbers(1), 1), Index(index.folder).verify):
        with pytest.raises(StoreCorrupt, match=r"index\.faiss: .* Delete it: it is made again"):
            read()


@pytest.mark.parametrize("place", [0, 9, 60, -1])
def test_flipped_byte_in_vectors_is_found_when_they_are_read(index, place):
    flip(index.folder / "shard-00000.safetensors", place)
    opened = Index(index.folder)
    for read in (lambda: opened.search(whole_numbers(1), 1), lambda: opened.scores(whole_numbers(1)), opened.verify):
        with pytest.raises(StoreCorrupt, match=r"shard-00000\.safetensors"):
            read()


def test_flipped_byte_in_the_columns_is_found_or_was_not_read(index):
    path = index.folder / "shard-00000.parquet"
    whole, rows = path.read_bytes(), pool_of(40)
    found = 0
    for place in np.random.default_rng(0).choice(len(whole), 150, replace=False):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        opened = Index(index.folder)
        try:
            read = [opened.example(row) for row in (0, 17, 39)], opened.ids
        except StoreCorrupt:
            found += 1
        else:
            assert read == ([rows[row] for row in (0, 17, 39)], [one.id for one in rows])
        with pytest.raises(StoreCorrupt, match=path.name):
            opened.verify()
    assert found > 50


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "shard-00000.parquet"])
def test_cut_or_lost_shard_is_found_on_opening(index, name):
    path = index.folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreCorrupt, match=name):
        Index(index.folder)
    path.unlink()
    with pytest.raises(StoreCorrupt, match=f"{name}: missing"):
        Index(index.folder)


@pytest.mark.parametrize("data", [b"", b"not json", b"{}", b"[]", b'{"sha256": null}'])
def test_damaged_record_of_the_faiss_file(index, data):
    (index.folder / "index.json").write_bytes(data)
    with pytest.raises(StoreCorrupt):
        Index(index.folder).search_approximately(whole_numbers(1), 1)


@pytest.mark.parametrize("names", [["index.faiss"], ["index.json"], ["index.faiss", "index.json"]])
def test_lost_faiss_file_is_made_again(index, names):
    queries, before = whole_numbers(4, 3), (index.folder / "index.faiss").read_bytes()
    for name in names:
        (index.folder / name).unlink()
    with pytest.raises(StoreMismatch, match="without --approximate"):
        Index(index.folder).search_approximately(queries, 6)
    again = Index(index.folder).ready()
    np.testing.assert_array_equal(again.search_approximately(queries, 40).scores, index.search(queries, 40).scores)
    assert (index.folder / "index.faiss").read_bytes() == before


def test_faiss_file_of_another_index_is_refused(index, tmp_path):
    other = build(tmp_path / "other", whole_numbers(40, seed=8))
    shutil.copy(other.folder / "index.faiss", index.folder / "index.faiss")
    with pytest.raises(StoreCorrupt):
        Index(index.folder).search_approximately(whole_numbers(1), 1)


def test_store_of_another_kind(tmp_path):
    made = StoreWriter(tmp_path / "features", kind="features", code=Plain(2), ids=["a"], provenance=Provenance())
    made.write(next(made.missing()), np.ones((1, 2), np.float32), {})
    made.finish()
    with pytest.raises(StoreMismatch, match="expected embeddings"):
        Index(tmp_path / "features")


def test_folder_that_is_no_index(tmp_path):
    with pytest.raises(StoreError):
        Index(tmp_path)


class StopsAfterOneShard(Fixed):
    """Fails on its second shard, as a killed run would."""

    calls = 0

    def encode_pool(self, examples):
        self.calls += 1
        if self.calls > 1:
            raise KeyboardInterrupt
        return super().encode_pool(examples)


def test_stopped_build_goes_on_and_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(index_job, "AT_ONCE", 10**6)
    monkeypatch.setattr(indexing.build, "__kwdefaults__", indexing.build.__kwdefaults__ | {"shard_rows": 2500})
    vectors = whole_numbers(5000)
    with pytest.raises(KeyboardInterrupt):
        Index.build(StopsAfterOneShard(vectors), pool_of(5000), tmp_path / "stopped", code="float16")
    with pytest.raises(StoreError, match="--resume"):
        Index(tmp_path / "stopped")
    resumed = Index.build(StopsAfterOneShard(vectors), pool_of(5000), tmp_path / "stopped", code="float16")
    calm = build(tmp_path / "calm", vectors)
    for path in calm.folder.iterdir():
        assert path.read_bytes() == (resumed.folder / path.name).read_bytes(), path.name


def test_build_is_not_resumed_with_another_pool(tmp_path):
    vectors = whole_numbers(6)
    build(tmp_path / "index", vectors)
    with pytest.raises(StoreMismatch, match=r"shard-00000: made from rows with hash [0-9a-f]{12}, the input has"):
        build(tmp_path / "index", vectors[:5])


def test_real_encoder_finds_what_it_scores_highest(real, encoder, tokenizer):
    test = splits(tokenizer)[2]
    queries = encoder.encode_query(test.queries)
    exact = queries @ encoder.encode_pool(test.pool).T
    found = real.search(queries, 10)
    best = -np.sort(-exact, axis=1)[:, :10]
    np.testing.assert_allclose(found.scores, best, atol=2e-3 * np.abs(exact).max())
    np.testing.assert_allclose(real.scores(queries), exact, atol=2e-3 * np.abs(exact).max())
