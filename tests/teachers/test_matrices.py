"""Matrices of other tools: every format gives back what was saved, every broken file is refused by name."""

import io
import pickle
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file

from helpers.foreign_matrices import save_bergson, save_lists, save_wide
from influcoder.errors import DataError, InflucoderError
from influcoder.teachers.bergson import read_bergson
from influcoder.teachers.matrices import places_of, read_ids, read_matrix

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=FINITE)
IDS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=7, max_size=7, unique=True)
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def taken(matrix):
    return np.asarray(matrix.take(np.arange(matrix.shape[0])))


@given(array=ARRAYS, dtype=st.sampled_from(["<f2", "<f4", "<f8", ">f4", "<i4"]), order=st.sampled_from("CF"))
def test_npy_round_trip(tmp_path_factory, array, dtype, order):
    path = tmp_path_factory.mktemp("npy") / "m.npy"
    array = np.asarray(np.clip(array, -6e4, 6e4).astype(dtype), order=order)
    np.save(path, array)
    matrix = read_matrix(path)
    assert matrix.shape == array.shape
    np.testing.assert_array_equal(taken(matrix), array)
    np.testing.assert_array_equal(matrix.take(np.array([0, 0])), array[[0, 0]])


@given(array=ARRAYS, dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_safetensors_round_trip(tmp_path_factory, array, dtype):
    path = tmp_path_factory.mktemp("safetensors") / "m.safetensors"
    tensor = torch.from_numpy(np.clip(array, -6e4, 6e4)).to(dtype)
    save_file({"a": tensor, "b": torch.zeros(2)}, path)
    np.testing.assert_array_equal(taken(read_matrix(path, "a")), tensor.double().numpy())


@given(array=ARRAYS, ids=IDS, form=st.sampled_from([pa.list_, pa.large_list, "fixed", "wide"]))
def test_parquet_round_trip(tmp_path_factory, array, ids, form):
    path, ids = tmp_path_factory.mktemp("parquet") / "m.parquet", ids[: len(array)]
    if form == "wide":
        save_wide(path, array, ids)
    else:
        save_lists(path, array, ids, form if form != "fixed" else lambda kind: pa.list_(kind, array.shape[1]))
    matrix = read_matrix(path)
    assert matrix.ids == ids
    np.testing.assert_array_equal(taken(matrix), array)


@given(array=ARRAYS, name=st.sampled_from(["float16", "float32", "float64"]))
def test_bergson_round_trip(tmp_path_factory, array, name):
    array = np.clip(array, -6e4, 6e4).astype(name)
    matrix = read_bergson(save_bergson(tmp_path_factory.mktemp("b"), array, sizes={"m": array.shape[1]}))
    np.testing.assert_array_equal(taken(matrix), array)
    assert matrix.ids is None


@given(array=ARRAYS)
def test_bergson_bfloat16_round_trip(tmp_path_factory, array):
    tensor = torch.from_numpy(array).bfloat16()
    bits = tensor.view(torch.int16).numpy()
    folder = save_bergson(tmp_path_factory.mktemp("b"), bits, name="bfloat16", sizes={"m": array.shape[1]})
    np.testing.assert_array_equal(taken(read_bergson(folder)), tensor.float().numpy())


def test_bergson_ids_are_those_of_its_data(tmp_path):
    folder = save_bergson(tmp_path / "i", ROWS, data={"id": [5, 6, 7, 8], "text": list("abcd")})
    assert read_bergson(folder).ids == ["5", "6", "7", "8"]
    assert read_bergson(save_bergson(tmp_path / "n", ROWS, data={"text": list("abcd")})).ids is None
    assert read_bergson(folder).layout == (("layers.0.q", 1), ("layers.0.v", 2))


def test_whole_numbers_are_ids(tmp_path):
    save_wide(tmp_path / "m.parquet", ROWS, [3, 1, 2, 0])
    matrix = read_matrix(tmp_path / "m.parquet")
    assert matrix.ids == ["3", "1", "2", "0"]
    assert matrix.columns == ("f0", "f1", "f2")


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def npz():
    stream = io.BytesIO()
    np.savez(stream, a=ROWS)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a NumPy file"),
        (b"\x93NUMPY\x01\x00", "not a NumPy file"),
        (pickle.dumps(Evil()), "not a NumPy file"),
        (npz(), "not a NumPy file"),
        (np.array([["a"]]), "1 x 1 of <U1, expected"),
        (np.array([[{}]]), "not a NumPy file of plain numbers"),
        (np.ones((2, 2), bool), "2 x 2 of bool, expected"),
        (np.ones((2, 2), complex), "of complex128"),
        (np.ones(3), "3 of float64, expected"),
        (np.ones((1, 2, 3)), "1 x 2 x 3 of float64"),
        (np.float64(1), "a single number of float64"),
        (np.zeros(2, [("a", "f4")]), "expected"),
        (np.empty((0, 3)), "0 x 3 numbers, expected at least one row"),
        (np.empty((3, 0)), "3 x 0 numbers, expected at least one row"),
    ],
)
def test_npy_refusals(tmp_path, content, told):
    path = tmp_path / "m.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content, allow_pickle=True)
    with pytest.raises(DataError, match=told) as refusal:
        read_matrix(path)
    assert str(path) in str(refusal.value)


@given(cut=st.integers(0, 200))
def test_npy_cut_anywhere(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "m.npy"
    np.save(path, np.ones((9, 9)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="not a NumPy file"):
        read_matrix(path)


@given(junk=st.binary(max_size=80), suffix=st.sampled_from([".npy", ".safetensors", ".parquet"]))
def test_junk_is_refused(tmp_path_factory, junk, suffix):
    path = tmp_path_factory.mktemp("junk") / f"m{suffix}"
    path.write_bytes((b"\x93NUMPY\x01\x00\x40\x00" if suffix == ".npy" else b"") + junk)
    with pytest.raises(DataError, match="m"):
        read_matrix(path)


@pytest.mark.parametrize(
    ("tensors", "named", "told"),
    [
        ({}, None, r"holds the tensors \[\]"),
        ({"a": torch.ones(2, 2), "b": torch.ones(2, 2)}, None, r"holds the tensors \['a', 'b'\]. Name one"),
        ({"a": torch.ones(2, 2)}, "c", r"holds the tensors \['a'\]"),
        ({"a": torch.ones(2)}, None, "2 of torch.float32, expected"),
        ({"a": torch.ones(2, 2, dtype=torch.bool)}, None, "2 x 2 of torch.bool"),
        ({"a": torch.ones(2, 2, dtype=torch.complex64)}, None, "of torch.complex64"),
        ({"a": torch.ones(0, 2)}, None, "0 x 2 numbers"),
    ],
)
def test_safetensors_refusals(tmp_path, tensors, named, told):
    save_file(tensors, tmp_path / "m.safetensors")
    with pytest.raises(DataError, match=told):
        read_matrix(tmp_path / "m.safetensors", named)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"id": ["a", "b"], "x": ["1", "2"]}, r"column 'x' \(string\) is neither `id` nor numbers"),
        ({"id": ["a", "b"], "x": [1.0, 2.0], "__index_level_0__": [1, 2]}, "'__index_level_0__'"),
        ({"id": ["a", "b"], "x": [[1.0], [2.0]], "y": [1.0, 2.0]}, r"beside others, \['x', 'y'\]"),
        ({"id": ["a", "b"], "x": [["1"], ["2"]]}, "neither `id` nor numbers"),
        ({"id": ["a", "b"], "x": [[1.0], [2.0, 3.0]]}, "row 1 has 2 numbers, the first 1"),
        ({"id": ["a", "b"], "x": [[1.0], None]}, "row 1 has -1 numbers"),
        ({"id": ["a", "b"], "x": [None, [1.0]]}, "row 1 has 1 numbers, the first -1"),
        ({"id": ["a", None], "x": [1.0, 2.0]}, "column 'id' holds nulls"),
        ({"id": [1.5, 2.5], "x": [1.0, 2.0]}, "column 'id' is double, expected text"),
        ({"id": ["a", "b"], "x": [True, False]}, "neither `id` nor numbers"),
        ({"id": ["a", "b"]}, "2 x 0 numbers"),
        ({"id": pa.array([], pa.string()), "x": pa.array([], pa.float32())}, "0 x 1 numbers"),
        ({"x": pa.array([], pa.list_(pa.float32()))}, "0 x 0 numbers"),
        ({"x": [[], []]}, "neither `id` nor numbers"),
    ],
)
def test_parquet_refusals(tmp_path, columns, told):
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    with pytest.raises(DataError, match=told):
        read_matrix(tmp_path / "m.parquet")


def test_null_in_a_fixed_list_is_refused(tmp_path):
    column = pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"x": column}), tmp_path / "m.parquet")
    with pytest.raises(DataError, match="row 1 has -1 numbers"):
        read_matrix(tmp_path / "m.parquet")


def test_column_twice_is_refused(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array([1.0])] * 2, names=["x", "x"]), tmp_path / "m.parquet")
    with pytest.raises(DataError, match="column 'x' occurs more than once"):
        read_matrix(tmp_path / "m.parquet")


@pytest.mark.parametrize("name", ["m.csv", "m.npz", "m.pt", "m.NPY", "m"])
def test_other_suffixes_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / name, "w"):
        pass
    with pytest.raises(DataError, match=r"expected \.npy, \.safetensors or \.parquet"):
        read_matrix(tmp_path / name)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".parquet"])
def test_missing_file_and_folder(tmp_path, suffix):
    with pytest.raises(DataError, match="nowhere"):
        read_matrix(tmp_path / f"nowhere{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(DataError, match="folder"):
        read_matrix(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_grads": 5}, "48 bytes, expected 60 for 5 x 3"),
        ({"num_grads": 0}, "num_grads 0"),
        ({"num_grads": True}, "num_grads True"),
        ({"grad_sizes": {}, "num_grads": 4}, "48 bytes, expected 0"),
        ({"grad_sizes": {"a": -3}}, "grad_sizes"),
        ({"grad_sizes": [3]}, "grad_sizes"),
        ({"base_dtype": "object"}, "base_dtype 'object'"),
        ({"base_dtype": ["float32"]}, "base_dtype"),
        ({"base_dtype": None}, "base_dtype None"),
        ({"base_dtype": "float16"}, "48 bytes, expected 24"),
        ({"attribute_tokens": True}, "gradients a token"),
    ],
)
def test_bergson_refusals(tmp_path, change, told):
    with pytest.raises(DataError, match=told):
        read_bergson(save_bergson(tmp_path, ROWS, **change))


def test_unfinished_or_damaged_bergson_index_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no info\.json here"):
        read_bergson(tmp_path / "nowhere")
    with pytest.raises(DataError, match="unfinished build"):
        read_bergson(save_bergson(tmp_path / "index.part", ROWS))
    folder = save_bergson(tmp_path / "index", ROWS)
    (folder / "info.json").write_text("[]")
    with pytest.raises(InflucoderError, match=r"info\.json"):
        read_bergson(folder)
    folder = save_bergson(tmp_path / "without", ROWS)
    (folder / "gradients.bin").unlink()
    with pytest.raises(DataError, match="0 bytes, expected 48"):
        read_bergson(folder)


def test_bergson_data_that_does_not_fit_or_is_damaged(tmp_path):
    with pytest.raises(DataError, match="4 gradients of 3 rows of data"):
        read_bergson(save_bergson(tmp_path / "short", ROWS, data={"id": list("abc")}))
    folder = save_bergson(tmp_path / "damaged", ROWS, data={"id": list("abcd")})
    (folder / "data.hf" / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"data\.hf: cannot be read"):
        read_bergson(folder)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("i.txt", "a\nb\n", ["a", "b"]),
        ("i.txt", "a\r\nb\u2028c", ["a", "b\u2028c"]),
        ("i.txt", "\ufeffa\n", ["a"]),
        ("i.json", '["a", 2]', ["a", "2"]),
    ],
)
def test_ids(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_ids(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("i.txt", b"", "id 1 is ''"),
        ("i.txt", b"a\n\nb\n", "id 2 is ''"),
        ("i.txt", b"\xff", "cannot be read as ids"),
        ("i.json", b"{}", "holds no ids"),
        ("i.json", b"[]", "holds no ids"),
        ("i.json", b"[1.5]", "id 1 is 1.5"),
        ("i.json", b"[true]", "id 1 is True"),
        ("i.json", b"[", "cannot be read as ids"),
    ],
)
def test_wrong_ids(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_ids(tmp_path / name)


@given(st.permutations(list("abcdef")))
def test_rows_are_found_by_id(order):
    assert [order[place] for place in places_of("m", 6, order, list("abcdef"), "pool")] == list("abcdef")


@pytest.mark.parametrize(
    ("rows", "ids", "wanted", "told"),
    [
        (3, None, ["a", "b"], "m: 3 pool vectors for 2 pool examples, and no ids.*--pool-ids"),
        (3, ["a", "b"], ["a", "b"], "3 pool vectors, but 2 ids"),
        (2, ["a", "a"], ["a", "b"], "pool id 'a' occurs 2 times"),
        (2, ["a", "b"], ["b", "b"], "pool id 'b' occurs 2 times"),
        (2, ["a", "b"], ["a", "c"], "nothing for 1 of 2 pool examples, 'c' the first"),
        (3, ["a", "b", "c"], ["a", "b"], "1 of 3 pool ids belong to no example, 'c' the first"),
    ],
)
def test_rows_that_do_not_fit(rows, ids, wanted, told):
    with pytest.raises(DataError, match=told):
        places_of("m", rows, ids, wanted, "pool")
