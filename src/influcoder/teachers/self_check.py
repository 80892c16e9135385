"""Are the gradients of this very model right? Two of the user's rows are held against plain autograd.

It finds what would spoil every number silently: a layer that is not seen, examples that change with the batch they
are in, a precision that the model does not bear.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from influcoder.data.examples import Example
from influcoder.errors import InflucoderError, ModelError, first_line, some_of
from influcoder.model.batches import Tokens
from influcoder.model.decoder import Decoder
from influcoder.model.layers import View, lora_b
from influcoder.model.names import leaving_out
from influcoder.model.precision import use_bf16
from influcoder.teachers.forward import ForwardTeacher
from influcoder.teachers.kronecker import FittedViews
from influcoder.teachers.plain import plain_gradients
from influcoder.teachers.raw import RawFeatures
from influcoder.teachers.settings import FORWARD, TeacherSettings

RANK = 4
"""of the gradients that the self-check compares"""
SHARE, SHORT = 4, 16
"""an example is read up to one in SHARE of its tokens, and whole up to SHORT"""
WORST_ERROR = 1e-3
"""of a float32 gradient, as a share of its length"""
WORST_ROUNDED_COSINE = 0.97
"""of gradients in half precision with those in float32"""
WORST_ROUNDED_LENGTH = 0.1
NO_LENGTH = 1e-5
"""a layer with less of a gradient's length than this is not compared by itself: it is what rounding leaves"""


def self_check(decoder: Decoder, examples: Sequence[Example], settings: TeacherSettings) -> dict[str, Any]:
    """Hold the gradients of two examples against plain autograd's; returns the numbers.

    The two are the first and the next that is of another length, so that a batch of them is padded. A quarter of their
    tokens are read: a fault in a layer, a batch or a precision shows on any tokens, and the check costs a quarter.
    Their gradients of a fresh LoRA's B on every layer that `settings` look at, as the job takes them, are compared
    with those of the weights, one example at a time (`plain_gradients`). Teachers that take no gradient are compared
    with themselves, an example alone and in a batch.

    Raises:
        ModelError: they differ, or are not finite, or zero; the message holds the numbers, and what to do.
    """
    pair, tokens = _pair(decoder, examples)
    if settings.source in FORWARD:
        return _check_forward(decoder, pair, settings)
    small = TeacherSettings(rank=RANK, width=0, precision="fp32", token_budget=settings.token_budget)
    views = lora_b(decoder, rank=RANK, seed=settings.seed, modules=settings.modules)
    read = [_start(whole) for whole in tokens]
    try:
        plain = _plain(decoder, views, read, small)
        exact = _raw(decoder, views, read, small)
        rounded = None
        if use_bf16(settings.precision, decoder.device):
            rounded = _raw(decoder, views, read, replace(small, precision="bf16"))
    except InflucoderError:
        raise
    except Exception as error:  # models of every kind raise errors of every class
        raise ModelError(
            f"{decoder.name}: no gradient of {pair[0].id!r} can be taken: {type(error).__name__}: {first_line(error)} "
            "Use a teacher that takes none, as --teacher repsim."
        ) from error
    _refuse_rows(decoder, pair, plain)
    half = decoder.model.dtype != torch.float32
    if not _agrees(exact, plain, half):
        alone = _raw(decoder, views, read, replace(small, token_budget=1))
        raise _disagreement(decoder, settings, views, exact, plain, alone_is_right=_agrees(alone, plain, half))
    if rounded is not None and not _agrees(rounded, plain, half=True):
        raise ModelError(
            f"{decoder.name}: the self-check failed: bfloat16 gradients have cosine {_cosine(rounded, plain):.3f} with "
            f"float32 ones, and lengths {_length_error(rounded, plain):.0%} off (at least {WORST_ROUNDED_COSINE} and "
            f"at most {WORST_ROUNDED_LENGTH:.0%} expected): use --precision fp32."
        )
    return {
        "examples": len(pair),
        "layers": len(views),
        "error": _error(exact, plain),
        "cosine": _cosine(exact, plain),
        "bf16_cosine": None if rounded is None else _cosine(rounded, plain),
    }


def _pair(decoder: Decoder, examples: Sequence[Example]) -> tuple[list[Example], list[Tokens]]:
    """The first example, and the next of another length, if there is one, or the next; their tokens."""
    pair: list[tuple[Example, Tokens]] = []
    for example in examples:  # one at a time: two or three are read as a rule
        (tokens,) = decoder.tokenise([example])
        if not tokens.targets:
            continue
        if pair and len(tokens.ids) != len(pair[0][1].ids):
            pair = [pair[0], (example, tokens)]
            break
        if len(pair) < 2:
            pair.append((example, tokens))
    if not pair:
        raise ModelError(f"{decoder.name}: none of {len(examples)} examples has a token that carries loss.")
    return [example for example, _ in pair], [tokens for _, tokens in pair]


def _start(tokens: Tokens) -> Tokens:
    """A share of an example's tokens, where it is long and its loss is not in the rest alone."""
    start = tokens.shortened(max(SHORT, len(tokens.ids) // SHARE))
    return start if start.targets else tokens


def _plain(decoder: Decoder, views: Sequence[View], pair: Sequence[Tokens], settings: TeacherSettings) -> Tensor:
    """(2, numbers) as plain autograd has them; of layers whose weights are packed, as they are one at a time."""
    rows = [plain_gradients(decoder.model, views, tokens) for tokens in pair]
    if any(part is None for part in rows[0]):
        alone = _raw(decoder, views, pair, replace(settings, token_budget=1))
        packed = zip(*_by_view(alone, views), strict=True)
        rows = [
            [taken if part is None else part for part, taken in zip(row, instead, strict=True)]
            for row, instead in zip(rows, packed, strict=True)
        ]
    return torch.stack([torch.cat([part.cpu() for part in row if part is not None]) for row in rows])


def _raw(decoder: Decoder, views: Sequence[View], pair: Sequence[Tokens], settings: TeacherSettings) -> Tensor:
    raw = RawFeatures(decoder, settings, FittedViews(list(views)), bf16=settings.precision == "bf16")
    return raw(pair, "pool")[0]


def _by_view(rows: Tensor, views: Sequence[View]) -> list[Tensor]:
    return list(rows.split([view.length for view in views], dim=1))  # type: ignore[no-untyped-call]


def _error(gradients: Tensor, expected: Tensor) -> float:
    """The worst difference, as a share of the length."""
    return float(((gradients - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-30)).max())


def _cosine(gradients: Tensor, expected: Tensor) -> float:
    return float(torch.cosine_similarity(gradients, expected, eps=1e-30).min())


def _length_error(gradients: Tensor, expected: Tensor) -> float:
    return float((gradients.norm(dim=1) / expected.norm(dim=1).clamp_min(1e-30) - 1).abs().max())


def _agrees(gradients: Tensor, expected: Tensor, half: bool) -> bool:
    """Whether gradients are the same; those with NaN are not."""
    if half:
        return (
            _cosine(gradients, expected) >= WORST_ROUNDED_COSINE
            and _length_error(gradients, expected) <= WORST_ROUNDED_LENGTH
        )
    return _error(gradients, expected) <= WORST_ERROR


def _refuse_rows(decoder: Decoder, pair: Sequence[Example], plain: Tensor) -> None:
    """Refuse rows that have no gradient in plain autograd."""
    for name, rows, what in (
        ("not finite", ~plain.isfinite().all(dim=1), "weights or text that its numbers do not hold"),
        ("zero", ~plain.any(dim=1), "a loss that does not depend on the layers looked at (--modules)"),
    ):
        bad = [example.id for example, is_bad in zip(pair, rows.tolist(), strict=True) if is_bad]
        if bad:
            raise ModelError(
                f"{decoder.name}: the self-check failed: {len(bad)} of {len(pair)} gradients are {name}, {bad[0]!r} "
                f"among them, in plain autograd as well: {what}. Leave such rows out, or give another model."
            )


def _disagreement(
    decoder: Decoder,
    settings: TeacherSettings,
    views: Sequence[View],
    gradients: Tensor,
    plain: Tensor,
    *,
    alone_is_right: bool,
) -> ModelError:
    """What is wrong, and what to do."""
    start = f"{decoder.name}: the self-check failed: "
    if alone_is_right:
        return ModelError(
            f"{start}an example's gradient changes by {_error(gradients, plain):.2g} of its length with the batch it "
            f"is in (at most {WORST_ERROR:g} expected): examples, or their padding, touch each other in this model. "
            "Run them one at a time, with --token-budget 1."
        )
    off, names = [], [view.name for view in views]
    for name, part, right in zip(names, _by_view(gradients, views), _by_view(plain, views), strict=True):
        if not float((part - right).norm()) <= WORST_ERROR * float(right.norm()) + NO_LENGTH * float(plain.norm()):
            off.append(name)
    others = [name for name in names if name not in off]
    remedy = leaving_out(off, others, settings.modules) if others else "no layer is right: use --teacher repsim"
    return ModelError(
        f"{start}gradients differ from plain autograd's by {_error(gradients, plain):.2g} of their length (at most "
        f"{WORST_ERROR:g} expected), in {some_of(off)}. Leave these layers out: {remedy}"
    )


def _check_forward(decoder: Decoder, pair: Sequence[Example], settings: TeacherSettings) -> dict[str, Any]:
    """The same for teachers that run forward only: an example alone and in a batch."""
    together, alone = (
        ForwardTeacher(decoder, replace(settings, token_budget=budget)).features(pair, "pool")
        for budget in (settings.token_budget, 1)
    )
    features, expected = torch.from_numpy(together.vectors), torch.from_numpy(alone.vectors)
    if alone.rejected.any():
        raise ModelError(
            f"{decoder.name}: the self-check failed: {int(alone.rejected.sum())} of {len(pair)} features are not "
            "finite. Leave such rows out, or give another model."
        )
    error = _error(features, expected)
    if not error <= WORST_ROUNDED_LENGTH:
        raise ModelError(
            f"{decoder.name}: the self-check failed: features change with the batch they are in: examples, or "
            "their padding, touch each other in this model. Run them one at a time, with --token-budget 1."
        )
    cosine = _cosine(features, expected)
    return {"examples": len(pair), "layers": 0, "error": error, "cosine": cosine, "bf16_cosine": None}
