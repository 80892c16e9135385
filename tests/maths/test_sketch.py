import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from influcoder.maths.sketch import CountSketch

SHAPES = [([7], 16), ([16], 16), ([40], 16), ([3, 50, 16, 1], 8), ([5, 5], 1)]
lengths = st.lists(st.integers(1, 40), min_size=1, max_size=4)
widths = st.integers(1, 50)
seeds = st.integers(0, 2**31)


def random_parts(lengths, rows=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, length, generator=generator) for length in lengths]


@given(lengths, widths, seeds, st.floats(-10, 10), st.floats(-10, 10))
def test_linear(lengths, width, seed, one, other):
    sketch = CountSketch(lengths, width, seed)
    first, second = random_parts(lengths, 2, 1), random_parts(lengths, 2, 2)
    mixed = [one * a + other * b for a, b in zip(first, second, strict=True)]
    torch.testing.assert_close(sketch(mixed), one * sketch(first) + other * sketch(second), rtol=1e-4, atol=1e-3)


@given(lengths, widths, seeds)
def test_same_seed_same_sketch(lengths, width, seed):
    parts = random_parts(lengths)
    assert torch.equal(CountSketch(lengths, width, seed)(parts), CountSketch(lengths, width, seed)(parts))


def test_another_seed_another_sketch():
    parts = random_parts([30])
    assert not torch.equal(CountSketch([30], 16, 0)(parts), CountSketch([30], 16, 1)(parts))


@given(lengths, widths, seeds, st.data())
def test_one_hot_becomes_one_sign(lengths, width, seed, data):
    parts = [torch.zeros(1, length) for length in lengths]
    part = data.draw(st.integers(0, len(lengths) - 1))
    parts[part][0, data.draw(st.integers(0, lengths[part] - 1))] = 1
    found = CountSketch(lengths, width, seed)(parts)
    assert found.shape == (1, width)
    assert found.abs().sum() == 1
    assert found.abs().max() == 1


@given(lengths, widths, seeds)
def test_rows_do_not_mix(lengths, width, seed):
    sketch = CountSketch(lengths, width, seed)
    parts = random_parts(lengths, 3)
    each = [sketch([part[row : row + 1] for part in parts]) for row in range(3)]
    torch.testing.assert_close(sketch(parts), torch.cat(each))


def test_part_given_twice_adds():
    sketch = CountSketch([5, 20], 8, 0)
    first, second = random_parts([5, 20]), random_parts([5, 20], seed=1)
    found = torch.zeros(1, 8)
    for part in (first[1], second[1]):
        sketch.add(found, 1, part)
    torch.testing.assert_close(found, sketch([torch.zeros(1, 5), first[1] + second[1]]))


@pytest.mark.parametrize(("lengths", "width"), SHAPES)
def test_back_is_the_transpose(lengths, width):
    sketch, parts = CountSketch(lengths, width, 0), random_parts(lengths)
    vector = torch.randn(1, width, generator=torch.Generator().manual_seed(1))
    back = [sketch.back(vector, number) for number in range(len(lengths))]
    assert [one.shape for one in back] == [part.shape for part in parts]
    products = sum(float((one * part).sum()) for one, part in zip(back, parts, strict=True))
    assert products == pytest.approx(float((vector * sketch(parts)).sum()), rel=1e-4, abs=1e-4)


def test_part_shorter_than_the_width_keeps_its_length():
    part = random_parts([7])
    assert float(CountSketch([7], 16, 0)(part).norm()) == pytest.approx(float(part[0].norm()), rel=1e-6)


def sketched_products(lengths, width, one, other, seeds):
    products = []
    for seed in range(seeds):
        sketch = CountSketch(lengths, width, seed)
        products.append(float(sketch(one)[0] @ sketch(other)[0]))
    return torch.tensor(products, dtype=torch.float64)


@pytest.mark.parametrize(("lengths", "width"), SHAPES)
def test_inner_products_are_unbiased_within_the_variance_bound(lengths, width):
    one = random_parts(lengths, seed=1)
    other = [a + b for a, b in zip(one, random_parts(lengths, seed=2), strict=True)]
    flat, flat_other = torch.cat(one, 1)[0].double(), torch.cat(other, 1)[0].double()
    exact = flat @ flat_other
    products = sketched_products(lengths, width, one, other, 2000)
    bound = (flat.square().sum() * flat_other.square().sum() + exact**2) / width
    standard_error = products.std() / len(products) ** 0.5
    assert abs(products.mean() - exact) <= 4 * standard_error + 1e-5
    assert products.var() <= 1.15 * bound
