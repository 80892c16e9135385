import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.tiny import some_examples
from influcoder.errors import ModelError
from influcoder.model.batches import Tokens, in_batches, make_batches
from influcoder.model.gradients import LayerGradients
from influcoder.model.layers import lora_b

CPU = torch.device("cpu")
texts = st.lists(
    st.integers(1, 30).flatmap(
        lambda length: st.integers(0, length).map(lambda start: Tokens(np.arange(length, dtype=np.int64) + 1, start))
    ),
    max_size=12,
)


@given(texts, st.integers(1, 100))
def test_each_example_with_a_loss_is_in_one_batch_within_the_budget(tokens, budget):
    batches = list(make_batches(tokens, budget, CPU))
    places = [place for batch in batches for place in batch.places]
    assert sorted(places) == [place for place, one in enumerate(tokens) if one.targets > 0]
    assert [len(tokens[place].ids) for place in places] == sorted((len(tokens[p].ids) for p in places), reverse=True)
    for batch in batches:
        assert batch.ids.numel() <= budget or len(batch.places) == 1


@given(texts, st.integers(1, 100))
def test_a_batch_says_where_the_loss_is(tokens, budget):
    for batch in make_batches(tokens, budget, CPU):
        assert batch.ids.shape == (len(batch.places), int(batch.lengths.max()))
        for row, place in enumerate(batch.places):
            ids, start = tokens[place].ids, max(tokens[place].start, 1)
            assert int(batch.lengths[row]) == len(ids)
            assert batch.ids[row, : len(ids)].tolist() == ids.tolist()
            mine = batch.rows == row
            assert batch.columns[mine].tolist() == list(range(start - 1, len(ids) - 1))
            assert batch.targets[mine].tolist() == ids[start:].tolist()
            assert float(batch.weights[mine].sum()) == pytest.approx(1, rel=1e-5)
            assert len(set(batch.weights[mine].tolist())) == 1


def test_example_without_loss_is_in_no_batch(decoder):
    tokens = decoder.tokenise(some_examples())
    silent = Tokens(tokens[0].ids, len(tokens[0].ids))
    batches = list(make_batches([silent, *tokens[1:]], 60, CPU))
    assert sorted(place for batch in batches for place in batch.places) == list(range(1, len(tokens)))


def test_nothing_to_do():
    assert not list(make_batches([], 10, CPU))
    in_batches([], 10, CPU, lambda batch: pytest.fail("called"))


OUT_OF_MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("std::bad_alloc"),
]


def collect(tokens, budget, limit, error, work=lambda batch: None):
    """The places of the batches that went through where more than `limit` tokens raise `error`."""
    done, sizes = [], []

    def limited(batch):
        sizes.append(batch.ids.numel())
        work(batch)
        if batch.ids.numel() > limit:
            raise error
        done.append(batch.places)

    in_batches(tokens, budget, CPU, limited)
    return done, sizes


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: f"{type(error).__name__}-{str(error)[:20]}")
def test_out_of_memory_halves_the_batch_and_goes_on(error, caplog):
    tokens = [Tokens(np.arange(10), 3) for _ in range(16)]
    done, sizes = collect(tokens, 160, 50, error)
    assert sizes[:3] == [160, 80, 40]
    assert set(sizes[3:]) == {40}  # it does not grow again
    assert [place for places in done for place in places] == list(range(16))
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory: going on with batches of 80 tokens",
        "out of memory: going on with batches of 40 tokens",
    ]


@given(texts, st.integers(1, 400), st.integers(30, 100))
def test_every_example_is_done_once_whatever_fits(tokens, budget, limit):
    done, _ = collect(tokens, budget, limit, MemoryError())
    assert sorted(place for places in done for place in places) == [
        place for place, one in enumerate(tokens) if one.targets > 0
    ]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: f"{type(error).__name__}-{str(error)[:20]}")
def test_a_single_example_that_does_not_fit(error):
    tokens = [Tokens(np.arange(length), 3) for length in (10, 37, 9)]
    with pytest.raises(ModelError, match=r"out of memory with a single example of 37 tokens.*--max-length") as raised:
        collect(tokens, 100, 36, error)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no"), KeyError(1)]
)
def test_other_errors_pass_through(error):
    tokens = [Tokens(np.arange(10), 3) for _ in range(4)]
    with pytest.raises(type(error)) as raised:
        collect(tokens, 40, 5, error)
    assert raised.value is error


@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_are_the_same_where_memory_runs_out_on_the_way(decoder, bf16, monkeypatch):
    engine = LayerGradients(decoder, lora_b(decoder, rank=2, seed=0), bf16=bf16)
    tokens = decoder.tokenise(some_examples())
    runs = []

    def gradients(budget):
        found = [torch.zeros(len(tokens), length) for length in engine.lengths]

        def work(batch):
            runs.append(len(batch.places))
            parts = {}
            engine.run(batch, parts.__setitem__)
            for view, part in parts.items():
                found[view][batch.places] = part

        in_batches(tokens, budget, CPU, work)
        return torch.cat(found, dim=1)

    expected = gradients(1000)
    assert runs == [len(tokens)]
    down = engine.views[-1].module
    usual = type(down).forward

    def crowded(module, x):
        if module is down and x.shape[:2].numel() > 130:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return usual(module, x)

    monkeypatch.setattr(type(down), "forward", crowded)
    found = gradients(1000)
    assert runs[1] == len(tokens) > runs[2] > 1
    torch.testing.assert_close(found, expected, rtol=0.05 if bf16 else 1e-4, atol=0.02 if bf16 else 1e-6)
    assert all(type(parameter) is torch.nn.Parameter for parameter in decoder.model.parameters())
