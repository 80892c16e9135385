"""The codes: what they keep, and how they are packed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from influcoder.errors import ConfigError
from influcoder.store.scalar_code import ScalarCode

NAMES = ("float16", "int8", "int4")
MATRICES = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-100, 100, width=32)
)


@pytest.mark.parametrize("name", NAMES)
@given(vectors=MATRICES)
def test_numbers_come_back_within_half_a_level(name, vectors):
    code = ScalarCode.fit(name, vectors)
    stored = code.encode(vectors)
    assert stored.shape == (len(vectors), code.bytes // stored.itemsize)
    assert str(stored.dtype) == code.dtype
    back = code.decode(stored)
    assert back.dtype == np.float32
    if name == "float16":
        np.testing.assert_allclose(back, vectors, rtol=2**-11, atol=1e-7)
    else:
        last = {"int8": 127, "int4": 7}[name]
        inside = np.abs(vectors) <= (last + 0.5) * code.scale
        assert (np.abs(back - vectors)[inside] <= (0.5001 * code.scale + 1e-29 + 0 * vectors)[inside]).all()
        assert (np.abs(back)[~inside] == (last * code.scale + 0 * vectors)[~inside]).all()


@given(levels=arrays.arrays(np.int8, st.tuples(st.integers(0, 5), st.integers(1, 9)), elements=st.integers(-7, 7)))
def test_two_levels_to_a_byte(levels):
    code = ScalarCode("int4", np.ones(levels.shape[1], np.float32))
    np.testing.assert_array_equal(code.numbers(code.encode(levels.astype(np.float32))), levels)


def test_scales_have_less_error_than_the_largest_number_alone():
    sample = np.random.default_rng(0).standard_t(3, (2000, 6)).astype(np.float32)
    for name, last in (("int8", 127), ("int4", 7)):
        fitted = ScalarCode.fit(name, sample)
        plain = ScalarCode(name, np.abs(sample).max(axis=0) / np.float32(last))
        errors = [((one.decode(one.encode(sample)) - sample) ** 2).sum(axis=0) for one in (fitted, plain)]
        assert (errors[0] <= errors[1] * (1 + 1e-5)).all()
    assert errors[0].sum() < 0.7 * errors[1].sum()


def test_dimension_without_any_number():
    code = ScalarCode.fit("int8", np.zeros((3, 2), np.float32))
    assert code.scale.tolist() == [1, 1]
    np.testing.assert_array_equal(code.decode(code.encode(np.zeros((3, 2), np.float32))), 0)


def test_more_bytes_keep_more():
    sample = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    errors = {
        name: float(((code.decode(code.encode(sample)) - sample) ** 2).mean())
        for name in NAMES
        for code in [ScalarCode.fit(name, sample)]
    }
    assert errors["float16"] < errors["int8"] < errors["int4"]
    assert [ScalarCode.fit(name, sample).bytes for name in NAMES] == [32, 16, 8]


def test_unknown_code():
    with pytest.raises(ConfigError, match="expected one of float16, int8, int4"):
        ScalarCode.fit("int2", np.ones((1, 1), np.float32))
