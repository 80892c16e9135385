"""The first layers of a decoder, against the hidden states of its whole pass, one example at a time."""

import numpy as np
import pytest
import torch
from torch import nn

from helpers.tiny import some_examples, tiny_decoder
from influcoder.data.examples import Example
from influcoder.errors import ModelError
from influcoder.student.shallow_reader import GROUPS, ShallowReader

FAMILIES = ("llama", "gpt2")


def one_by_one(decoder, examples, layer):
    """Both groups from `output_hidden_states`, without a batch."""
    found = {name: [] for name in GROUPS}
    for tokens in decoder.tokenise(examples):
        ids = torch.from_numpy(tokens.ids)[None]
        with torch.no_grad():
            states = decoder.model(input_ids=ids, output_hidden_states=True).hidden_states[layer][0]
        for name, rows in (("shallow_state", states[tokens.places - 1]), ("shallow_text", states)):
            mean = rows.mean(dim=0)
            found[name].append((mean / mean.norm()).numpy())
    return {name: np.stack(rows) for name, rows in found.items()}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("tokens", "depth"), [(None, 0.5), (9, 0.5), (None, 0.01)])
def test_states_are_those_of_the_whole_pass(tokenizer, family, tokens, depth):
    decoder = tiny_decoder(family, tokenizer)
    read = decoder if tokens is None else decoder.shortened(tokens)
    layers = decoder.model.config.num_hidden_layers
    assert layers >= 2  # so that half of them is not all
    found = ShallowReader(read, depth).read(some_examples())
    expected = one_by_one(read, some_examples(), max(1, round(depth * layers)))
    for name in GROUPS:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)


def test_layers_above_are_not_run(decoder):
    runs = []
    for number, layer in enumerate(decoder.model.model.layers):
        layer.register_forward_hook(lambda module, inputs, output, number=number: runs.append(number))
    ShallowReader(decoder, 0.5).read(some_examples()[:1])
    assert runs == [0]
    decoder.model(input_ids=torch.tensor([[1, 2]]))  # and the model is as it was
    assert runs == [0, 0, 1]


def test_an_example_without_loss_is_zeros(decoder):
    found = ShallowReader(decoder, 0.5).read([Example("a", "", ""), *some_examples()[:1]])
    for rows in found.values():
        assert not rows[0].any()
        assert np.linalg.norm(rows[1]) == pytest.approx(1, abs=1e-5)


def test_a_model_whose_layers_are_not_found_is_refused(decoder):
    decoder.model.model.layers = nn.ModuleList([*decoder.model.model.layers, nn.Identity()])
    with pytest.raises(ModelError, match=r"no list of its 2 layers.*--recipe static, forward or short"):
        ShallowReader(decoder, 0.5)


def test_layers_that_are_never_called_are_refused(decoder):
    reader = ShallowReader(decoder, 0.5)
    reader._last = nn.Identity()
    with pytest.raises(ModelError, match="not run one after the other"):
        reader.read(some_examples())


def test_layers_that_give_several_states_a_token_are_refused(decoder):
    reader = ShallowReader(decoder, 0.5)
    reader._last.register_forward_hook(lambda layer, inputs, output: torch.stack([output, output]), prepend=True)
    with pytest.raises(ModelError, match="do not give one state a token"):
        reader.read(some_examples())
