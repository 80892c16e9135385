"""Rows that are already tokenised: `input_ids`, with `labels` or masks that say where the loss is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from influcoder.data.messages import RowError
from influcoder.data.values import is_given, shown

_MASKS = ("completion_mask", "assistant_masks", "assistant_mask", "loss_mask", "attention_mask")
TOKEN_COLUMNS = frozenset({"input_ids", "labels", *_MASKS, "token_type_ids", "position_ids"})
IGNORED = -100
"""the label of a token without loss"""


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A row that is already tokenised: its ids, and how much each counts in the loss."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


def read_token_ids(row: Mapping[str, Any]) -> TokenIds:
    """The ids of a row and where its loss is: where `labels` are not -100 and every mask is 1.

    Without labels and masks, all tokens carry loss. Tokens that `attention_mask` hides are left out.

    Raises:
        RowError: a column is not a list of whole numbers, lengths differ, a label is another token, or none has loss.
    """
    ids = _numbers(row, "input_ids")
    if not ids or min(ids) < 0:
        raise RowError("bad_tokens", f"column 'input_ids' is {shown(ids)}, expected ids of at least 0")
    labels = _numbers(row, "labels") if is_given(row.get("labels")) else ids
    masks = {name: _numbers(row, name) for name in _MASKS if is_given(row.get(name))}
    for place, (token, label) in enumerate(zip(ids, labels, strict=True)):
        if label not in (token, IGNORED):
            raise RowError("bad_labels", f"labels[{place}] is {label}, expected {token} as in input_ids, or {IGNORED}")
    has_loss = [label != IGNORED for label in labels]
    for mask in masks.values():
        has_loss = [loss and value > 0 for loss, value in zip(has_loss, mask, strict=True)]
    kept = [place for place, visible in enumerate(masks.get("attention_mask", [1] * len(ids))) if visible]
    if not any(has_loss[place] for place in kept[1:]):
        raise RowError("no_loss", f"no token carries loss: all labels are {IGNORED}, or masked")
    return TokenIds(tuple(ids[place] for place in kept), tuple(float(has_loss[place]) for place in kept))


def _numbers(row: Mapping[str, Any], column: str) -> list[int]:
    values = row[column]
    if column in _MASKS and isinstance(values, list):
        values = [int(value) if isinstance(value, bool) else value for value in values]
    if not isinstance(values, list) or not all(type(value) is int and abs(value) < 2**31 for value in values):
        raise RowError("bad_tokens", f"column {column!r} is {shown(values)}, expected a list of whole numbers")
    if len(values) != (count := len(row["input_ids"])):
        raise RowError("bad_tokens", f"column {column!r} holds {len(values)} values for {count} input_ids")
    return values
