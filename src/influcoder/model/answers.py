"""A model's greedy answers to prompts: many prompts at a time, each as if it were alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

TOKEN_BUDGET = 4096
"""padded tokens, prompts and answers, that are in memory together"""


@torch.inference_mode()
def greedy_tokens(model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, end: int) -> list[list[int]]:
    """The token ids of each prompt's greedy continuation, its end token included, in the order of the prompts.

    Prompts are padded on the left if the model ignores such padding; otherwise each goes alone.

    Args:
        prompts: token ids, at least one each.
        end: the end token, which serves as padding too.
    """
    together = len({len(prompt) for prompt in prompts}) == 1 or _ignores_padding(model, end)
    answers: list[list[int]] = [[]] * len(prompts)
    for places in _batches(prompts, max_new_tokens, TOKEN_BUDGET if together else 1):
        sequences = _generate(model, [prompts[place] for place in places], max_new_tokens, end).sequences
        longest = len(prompts[places[0]])
        for place, answer in zip(places, sequences[:, longest:].tolist(), strict=True):
            answers[place] = _until_end(answer, model, end)
    return answers


def _batches(prompts: Sequence[Sequence[int]], more: int, budget: int) -> Iterator[list[int]]:
    """The places of prompts of similar lengths, the longest first."""
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    while order:
        count = max(1, budget // (len(prompts[order[0]]) + more))
        yield order[:count]
        order = order[count:]


def _generate(model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int, end: int, **more: Any) -> Any:
    """The result of `generate` for prompts that are padded to the length of the first, the longest."""
    longest = len(prompts[0])
    ids = torch.tensor([[end] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    return model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=end,
        return_dict_in_generate=True,
        **more,
    )


def _ignores_padding(model: Any, end: int) -> bool:
    """Whether padding on the left leaves a prompt's predictions as they are; recurrent models may read it."""
    rows = model.get_input_embeddings().num_embeddings
    long, short = [1 % rows, 2 % rows, 3 % rows, 4 % rows, 5 % rows], [3 % rows, 2 % rows]

    def logits(*prompts: list[int]) -> Tensor:
        steps = _generate(model, prompts, 2, end, output_logits=True).logits
        return torch.stack([step[-1].float() for step in steps])

    padded, alone = logits(long, short), logits(short)
    return padded.shape == alone.shape and bool(
        torch.isclose(padded, alone, rtol=0, atol=1e-2 * float(alone.abs().max())).all()
    )


def _until_end(answer: list[int], model: Any, end: int) -> list[int]:
    """An answer up to its end token, without the padding behind it."""
    config_end = getattr(model.generation_config, "eos_token_id", None)
    ends = {end, *(config_end if isinstance(config_end, list) else [config_end])}
    return next((answer[: place + 1] for place, token in enumerate(answer) if token in ends), answer)
