import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from influcoder.errors import StoreMismatch
from influcoder.maths.lowrank import LowRankCode, factors
from influcoder.provenance import Provenance
from influcoder.store.codes import Plain
from influcoder.store.store import Store
from influcoder.store.writer import StoreWriter
from influcoder.teachers.teacher import CODES

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 10), st.integers(0, 1000))


def some_rows(code, count=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, code.dim)).astype(np.float32)


@given(sizes)
@hypothesis_settings(max_examples=60)
def test_factors_are_the_best_of_their_rank(size):
    a, b, rank, seed = size
    matrices = torch.randn(3, a, b, generator=torch.Generator().manual_seed(seed))
    left, right = factors(matrices, rank)
    assert left.shape == (3, a, min(rank, a, b))
    assert right.shape == (3, min(rank, a, b), b)
    missed = (matrices - left @ right).double().square().sum(dim=(1, 2))
    singular = torch.linalg.svdvals(matrices.double())
    best = singular[:, rank:].square().sum(dim=1)  # Eckart-Young: nothing of this rank misses less
    torch.testing.assert_close(missed, best, rtol=1e-4, atol=1e-8)


@given(sizes)
@hypothesis_settings(max_examples=40)
def test_what_is_of_low_rank_comes_back_whole(size):
    a, b, rank, seed = size
    code = LowRankCode([(a, b), (b, a)], rank)
    rng = np.random.default_rng(seed)
    parts = [
        (rng.standard_normal((3, x, rank)) @ rng.standard_normal((3, rank, y))).reshape(3, -1) for x, y in code.shapes
    ]
    rows = np.concatenate(parts, axis=1).astype(np.float32)
    coded = code.encode(rows)
    assert coded.shape == (3, code.width)
    np.testing.assert_allclose(code.decode(coded), rows, atol=1e-4 * np.abs(rows).max())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_coding_again_changes_nothing(rank):
    code = LowRankCode([(4, 3), (5, 5)], rank)
    once = code.decode(code.encode(some_rows(code)))
    np.testing.assert_allclose(code.decode(code.encode(once)), once, atol=1e-5)


def test_zero_rows_stay_zero():
    code = LowRankCode([(4, 3), (2, 6)], 2)
    assert not code.decode(code.encode(np.zeros((2, code.dim), np.float32))).any()


def test_factors_share_the_size():
    left, right = factors(1e4 * torch.randn(2, 5, 7), 1)
    torch.testing.assert_close(left.norm(dim=(1, 2)), right.norm(dim=(1, 2)))


def test_spec_reads_back():
    code = LowRankCode([(4, 3), (2, 6)], 2)
    read = LowRankCode.read({"code": json.loads(json.dumps(code.spec))}, {})
    assert read == LowRankCode([(4, 3), (2, 6)], 2)


def store_of(folder, rows, code):
    writer = StoreWriter(
        folder,
        kind="features",
        ids=[f"i{n}" for n in range(len(rows))],
        provenance=Provenance(),
        shard_rows=3,
        code=code or Plain(rows.shape[1]),
    )
    for shard in writer.missing():
        writer.write(shard, rows[shard.start : shard.stop], {"row": np.arange(shard.start, shard.stop)})
    return writer.finish()


def size_on_disk(store):
    return sum(path.stat().st_size for path in store.folder.glob("*.safetensors"))


def test_store_holds_the_code_and_gives_vectors(tmp_path):
    code = LowRankCode([(20, 20), (20, 10)], 1)
    rows = code.decode(code.encode(some_rows(code, 8)))
    coded, plain = store_of(tmp_path / "coded", rows, code), store_of(tmp_path / "plain", rows, None)
    assert coded.manifest["code"] == code.spec
    assert coded.manifest["dim"] == code.dim
    assert "code" not in plain.manifest
    assert 4 * size_on_disk(coded) < size_on_disk(plain)
    assert coded.manifest["shards"][0]["vectors_bytes"] - plain.manifest["shards"][0]["vectors_bytes"] == 3 * (
        code.bytes - Plain(code.dim).bytes
    )
    opened = Store(tmp_path / "coded").vectors(CODES)
    assert opened.shape == rows.shape
    assert opened.dtype == np.float32
    np.testing.assert_allclose(opened, rows, rtol=5e-3, atol=2e-3)


def test_another_code_is_not_resumed(tmp_path):
    rows = some_rows(LowRankCode([(4, 3)], 1), 5)
    store_of(tmp_path, rows, LowRankCode([(4, 3)], 1))
    for other in (LowRankCode([(4, 3)], 2), LowRankCode([(3, 4)], 1), None):
        with pytest.raises(StoreMismatch, match=r"code"):
            store_of(tmp_path, rows, other)
