"""The verb `show` as a function: what a decoder reads of some rows, and where their loss is."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from influcoder.data.examples import Example
from influcoder.model.batches import Tokens
from influcoder.model.decoder import Decoder


def show(decoder: Decoder, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """What the decoder reads of each example.

    Returns:
        of each: `id`; `parts`, the text in pieces of equal `loss`, which is how much each of a piece's tokens counts
        (0 for none); `tokens` and `tokens_with_loss`, how many there are; `cut`, what was cut to `max_length`;
        `left_out`, the row's fields that the chat template does not write; and `token_ids`.

    Raises:
        DataError: an example cannot be read.
    """
    return [
        {
            "id": example.id,
            "parts": _parts(decoder, tokens),
            "tokens": len(tokens.ids),
            "tokens_with_loss": tokens.targets,
            "cut": ["prompt"] * tokens.prompt_cut + ["completion"] * tokens.completion_cut,
            "left_out": list(tokens.lost),
            "token_ids": tokens.ids.tolist(),
        }
        for example, tokens in zip(examples, decoder.tokenise(examples), strict=True)
    ]


def _parts(decoder: Decoder, tokens: Tokens) -> list[dict[str, Any]]:
    counts = np.zeros(len(tokens.ids))
    counts[tokens.places] = 1 if tokens.weights is None else tokens.weights[tokens.places]
    return [
        {"text": decoder.tokenizer.decode([int(tokens.ids[place]) for place in places]), "loss": loss}
        for loss, places in groupby(range(len(counts)), key=lambda place: float(counts[place]))
    ]
