"""Checks that a model is a causal language model of tokens, and the hash that identifies it."""

import hashlib
from typing import Any

import orjson
import torch
from torch import nn
from transformers import PreTrainedModel

from influcoder.errors import ModelError, first_line

_NOT_ARITHMETIC = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}


def table_rows(model: PreTrainedModel, name: str) -> int:
    """How many tokens a model's embedding table holds.

    Raises:
        ModelError: it has no table of token embeddings, or no head that gives logits of tokens.
    """
    try:
        table, head = model.get_input_embeddings(), model.get_output_embeddings()
    except NotImplementedError:
        table = head = None
    if not isinstance(table, nn.Module) or not hasattr(table, "num_embeddings") or head is None:
        raise ModelError(
            f"{name}: {type(model).__name__} has no table of token embeddings, or no head that gives logits of tokens. "
            "Expected a causal language model of text."
        )
    rows: int = table.num_embeddings  # type: ignore[assignment]
    return rows


@torch.no_grad()
def is_causal(model: PreTrainedModel, name: str) -> bool:
    """Whether predictions depend on earlier tokens alone.

    Raises:
        ModelError: the model cannot be run on tokens alone.
    """
    table = model.get_input_embeddings()
    ids = torch.arange(5, device=table.weight.device) % table.num_embeddings
    pair = torch.stack([ids[:-1], torch.cat([ids[:-2], ids[-1:]])])  # they differ in the last token alone
    try:
        first, second = (model(input_ids=row[None], use_cache=False).logits[0, :-1].float() for row in pair)
    except Exception as error:  # models of every kind raise errors of every class
        raise ModelError(f"{name}: {cannot_run(model, error)}") from error
    return torch.allclose(first, second, rtol=0, atol=1e-3 * float(first.abs().nan_to_num().max()), equal_nan=True)


def cannot_run(model: PreTrainedModel, error: Exception) -> str:
    """The message for a model that raises an error when it reads tokens and nothing else."""
    reason = f"{type(model).__name__} cannot be run on tokens alone: {first_line(error)}"
    return f"{reason} Expected a decoder that reads text and nothing else."


def model_hash(model: PreTrainedModel) -> str:
    """SHA-256 of a model's weights and of the part of its config that changes its arithmetic."""
    config = {key: value for key, value in model.config.to_diff_dict().items() if key not in _NOT_ARITHMETIC}
    digest = hashlib.sha256(orjson.dumps(config, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS))
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def has_plain_head(model: Any) -> bool:
    """Whether the logits are the head's product with the last hidden state, and nothing after it."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None:
        return False
    table = model.get_input_embeddings()
    ids = torch.arange(4, device=table.weight.device)[None] % table.num_embeddings
    try:
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        of_hidden = head(hidden)
    except Exception:  # a base model of another kind
        return False
    whole = model(input_ids=ids, use_cache=False).logits
    return of_hidden.shape == whole.shape and torch.allclose(whole.float(), of_hidden.float(), rtol=1e-4, atol=1e-5)
