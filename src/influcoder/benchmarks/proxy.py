"""A smaller decoder of the family, made from the decoder itself: its first layers, its own head."""

import copy

from torch import nn

from influcoder.decoder import Decoder
from influcoder.errors import ModelError


def first_layers(decoder: Decoder, share: float = 0.5) -> Decoder:
    """A copy of a decoder with the first `share` of its layers; train it before it is asked anything.

    Raises:
        ModelError: the decoder does not keep its layers in one list.
    """
    model = copy.deepcopy(decoder.model)
    lists = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == model.config.num_hidden_layers
    ]
    if len(lists) != 1:
        raise ModelError(
            f"{decoder.name}: expected one list of its {model.config.num_hidden_layers} layers, found {len(lists)}."
        )
    parent, name, layers = lists[0]
    kept = max(1, round(share * len(layers)))
    setattr(parent, name, layers[:kept])
    model.config.num_hidden_layers = kept
    return Decoder(model, decoder.tokenizer, name=f"{decoder.name}, first {kept} layers", max_length=decoder.max_length)
