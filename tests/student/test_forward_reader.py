"""What the forward tier reads, against one example at a time and written-out formulas."""

import numpy as np
import pytest
import torch

from helpers.tiny import FAMILIES, tiny_decoder
from influcoder.data.examples import Example
from influcoder.student.forward_reader import GROUPS, SURPRISING, ForwardReader


@pytest.fixture
def reader(decoder):
    found = ForwardReader(decoder)
    found.bf16 = False
    return found


def made(count):
    words = ["Paris", "Rome", "the capital of France", "hello world", "two", "is seven"]
    return [Example(f"{n}", words[n % 6] * (n % 3), " " + words[(n + 2) % 6] * (1 + n % 4)) for n in range(count)]


def by_hand(decoder, example):
    one = decoder.tokenise([example])[0]
    first, ids = max(one.start, 1), torch.from_numpy(one.ids)
    head = decoder.model.get_output_embeddings().weight.float()
    with torch.no_grad():
        states = decoder.model.base_model(input_ids=ids[None], output_hidden_states=True).hidden_states
        inner, hidden = (one[0, first - 1 : -1].float() for one in (states[1], states[-1]))  # of two layers
        shares = torch.softmax(hidden @ head.T, dim=-1)
    told = shares[torch.arange(len(hidden)), ids[first:]]
    error = torch.stack(
        [
            sum(share[u] * head[u] for u in range(len(head))) - head[y]
            for share, y in zip(shares, ids[first:], strict=True)
        ]
    ).mean(dim=0)
    losses = -told.log()
    loss = [losses.mean(), losses.square().mean(), (losses > SURPRISING).float().mean(), told.mean()]
    state, middle = hidden.mean(dim=0), inner.mean(dim=0)
    return error / error.norm(), torch.stack(loss), state / state.norm(), middle / middle.norm()


def test_features_are_their_formulas(decoder, reader):
    read = made(7)
    found = reader.read(read)
    for row, example in enumerate(read):
        for name, expected in zip(GROUPS, by_hand(decoder, example), strict=True):
            np.testing.assert_allclose(found[name][row], expected.detach().numpy(), atol=2e-4, err_msg=name)


def test_neighbours_change_nothing(reader):
    read = made(30)
    together = reader.read(read)
    for row in (0, 11, 29):
        alone = reader.read(read[row : row + 1])
        for name in GROUPS:
            np.testing.assert_allclose(together[name][row], alone[name][0], atol=2e-5)


def test_bfloat16_is_close(decoder):
    exact, rough = ForwardReader(decoder), ForwardReader(decoder)
    exact.bf16, rough.bf16 = False, True
    one, other = (reader.read(made(12))["decoder_error"] for reader in (exact, rough))
    assert (one * other).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_shows_its_middle(family, tokenizer):
    found = ForwardReader(tiny_decoder(family, tokenizer)).read(made(5))
    assert set(found) == set(GROUPS)
    np.testing.assert_allclose(np.linalg.norm(found["decoder_middle"], axis=1), 1, atol=1e-4)
    assert not np.allclose(found["decoder_middle"], found["decoder_state"], atol=1e-2)


def test_nothing_to_read(reader):
    assert {name: len(rows) for name, rows in reader.read([]).items()} == dict.fromkeys(GROUPS, 0)
