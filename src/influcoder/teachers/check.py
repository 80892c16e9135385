"""Before a long job: are the gradients of this very model right, and how well does the teacher agree with itself?

`self_check` finds what would spoil every number silently: a layer that is not seen, examples that change with the
batch they are in, a precision that the model does not bear. Two of the user's rows are held against plain autograd.
`reliability` measures the ceiling: how well the teacher agrees with itself, which no student can surpass and no
reader should be kept from.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influcoder.data.examples import Example
from influcoder.errors import InflucoderError, ModelError, first_line, some_of
from influcoder.maths.arrays import Matrix
from influcoder.maths.influence import cross_influence
from influcoder.maths.metrics import spearman_rows
from influcoder.model.batches import Tokens
from influcoder.model.decoder import Decoder
from influcoder.model.layers import View, lora_b
from influcoder.model.names import leaving_out
from influcoder.model.precision import use_bf16
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.forward import ForwardTeacher
from influcoder.teachers.kronecker import FittedViews
from influcoder.teachers.make import make_teacher
from influcoder.teachers.plain import plain_gradients
from influcoder.teachers.raw import RawFeatures, plain_views
from influcoder.teachers.settings import FORWARD, TeacherSettings

PROBE = 16
"""queries of the reliability probe; three times as many pool examples"""
LEARN_FROM = 512
"""pool examples that the probe learns a curvature from, half at a time; the job itself may learn from more"""
UNSKETCHED_NUMBERS = 2**28
"""the most that the probe holds to compare sketched with unsketched: 1 GiB"""
RANK = 4
"""of the gradients that the self-check compares"""
SHORT = 32
"""tokens of an example that the self-check reads whole"""
WORST_ERROR = 1e-3
"""of a float32 gradient, as a share of its length"""
WORST_ROUNDED_COSINE = 0.97
"""of gradients in half precision with those in float32"""
WORST_ROUNDED_LENGTH = 0.1
NO_LENGTH = 1e-5
"""a layer with less of a gradient's length than this is not compared by itself: it is what rounding leaves"""


def check_teacher(
    decoder: Decoder,
    queries: Sequence[Example],
    pool: Sequence[Example],
    settings: TeacherSettings,
    checkpoints: Sequence[Checkpoint] = (),
    *,
    reliable: bool = True,
) -> dict[str, Any]:
    """`self_check` and, unless it is left out, `reliability` on a few examples of each side.

    Raises:
        ModelError: the gradients are not those of plain autograd; the message holds the numbers, and what to do.
    """
    rng = np.random.default_rng(settings.seed)
    asked, rows = (
        [side[row] for row in np.sort(rng.permutation(len(side))[:size])]
        for side, size in ((queries, PROBE), (pool, 3 * PROBE))
    )
    sample = [pool[row] for row in np.sort(rng.permutation(len(pool))[:LEARN_FROM])]
    found = {"self_check": self_check(decoder, [asked[0], *rows, *asked[1:]], settings)}
    if reliable:
        found["reliability"] = reliability(decoder, settings, asked, rows, checkpoints=checkpoints, fit_on=sample)
    return found


def self_check(decoder: Decoder, examples: Sequence[Example], settings: TeacherSettings) -> dict[str, Any]:
    """Hold the gradients of two examples against plain autograd's; returns the numbers.

    The two are the first and the next that is of another length, so that a batch of them is padded. Half of their
    tokens are read: a fault in a layer, a batch or a precision shows on any tokens, and the check costs half as much.
    Their gradients of a fresh LoRA's B on every layer that `settings` look at, as the job takes them, are compared
    with those of the weights, one example at a time (`plain_gradients`). Teachers that take no gradient are compared
    with themselves, an example alone and in a batch.

    Raises:
        ModelError: they differ, or are not finite, or zero; the message holds the numbers, and what to do.
    """
    pair = _pair(decoder, examples)
    if settings.source in FORWARD:
        return _check_forward(decoder, pair, settings)
    small = TeacherSettings(rank=RANK, width=0, precision="fp32", token_budget=settings.token_budget)
    views = lora_b(decoder, rank=RANK, seed=settings.seed, modules=settings.modules)
    tokens = [_half(one) for one in decoder.tokenise(pair)]
    try:
        plain = _plain(decoder, views, tokens, small)
        exact = _raw(decoder, views, tokens, small)
        rounded = None
        if use_bf16(settings.precision, decoder.device):
            rounded = _raw(decoder, views, tokens, replace(small, precision="bf16"))
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
        alone = _raw(decoder, views, tokens, replace(small, token_budget=1))
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


def _pair(decoder: Decoder, examples: Sequence[Example]) -> list[Example]:
    """The first example, and the next of another length, where there is one."""
    tokens = decoder.tokenise(examples)
    known = [number for number, one in enumerate(tokens) if one.targets > 0]
    if not known:
        raise ModelError(f"{decoder.name}: none of {len(examples)} examples has a token that carries loss.")
    first = known[0]
    others = sorted(known[1:], key=lambda number: len(tokens[number].ids) == len(tokens[first].ids))
    return [examples[number] for number in (first, *others[:1])]


def _half(tokens: Tokens) -> Tokens:
    """Half of an example's tokens, where it is long and its loss is not in the other half alone."""
    half = tokens.shortened(max(SHORT, len(tokens.ids) // 2))
    return half if half.targets else tokens


def _plain(decoder: Decoder, views: Sequence[View], pair: Sequence[Tokens], settings: TeacherSettings) -> Tensor:
    """(2, numbers) as plain autograd has them; of layers whose weights are packed, as they are one at a time."""
    rows = [plain_gradients(decoder.model, views, tokens) for tokens in pair]
    if any(one is None for one in rows[0]):
        alone = _raw(decoder, views, pair, replace(settings, token_budget=1))
        parts = _by_view(alone, views)
        rows = [[parts[n][r] if one is None else one for n, one in enumerate(row)] for r, row in enumerate(rows)]
    return torch.stack([torch.cat([one.cpu() for one in row if one is not None]) for row in rows])


def _raw(decoder: Decoder, views: Sequence[View], pair: Sequence[Tokens], settings: TeacherSettings) -> Tensor:
    raw = RawFeatures(decoder, settings, FittedViews(list(views)), bf16=settings.precision == "bf16")
    return raw(pair, "pool")[0]


def _by_view(rows: Tensor, views: Sequence[View]) -> list[Tensor]:
    return list(rows.split([view.length for view in views], dim=1))  # type: ignore[no-untyped-call]


def _error(found: Tensor, expected: Tensor) -> float:
    """The worst difference, as a share of the length."""
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-30)).max())


def _cosine(found: Tensor, expected: Tensor) -> float:
    return float(torch.cosine_similarity(found, expected, eps=1e-30).min())


def _length_error(found: Tensor, expected: Tensor) -> float:
    return float((found.norm(dim=1) / expected.norm(dim=1).clamp_min(1e-30) - 1).abs().max())


def _agrees(found: Tensor, expected: Tensor, half: bool) -> bool:
    """Whether gradients are the same; those with NaN are not."""
    if half:
        return (
            _cosine(found, expected) >= WORST_ROUNDED_COSINE and _length_error(found, expected) <= WORST_ROUNDED_LENGTH
        )
    return _error(found, expected) <= WORST_ERROR


def _refuse_rows(decoder: Decoder, pair: Sequence[Example], plain: Tensor) -> None:
    """Refuse rows that have no gradient in plain autograd."""
    for name, rows, what in (
        ("not finite", ~plain.isfinite().all(dim=1), "weights or text that its numbers do not hold"),
        ("zero", ~plain.any(dim=1), "a loss that does not depend on the layers looked at (--modules)"),
    ):
        bad = [one.id for one, is_bad in zip(pair, rows.tolist(), strict=True) if is_bad]
        if bad:
            raise ModelError(
                f"{decoder.name}: the self-check failed: {len(bad)} of {len(pair)} gradients are {name}, {bad[0]!r} "
                f"among them, in plain autograd as well: {what}. Leave such rows out, or give another model."
            )


def _disagreement(
    decoder: Decoder,
    settings: TeacherSettings,
    views: Sequence[View],
    found: Tensor,
    plain: Tensor,
    *,
    alone_is_right: bool,
) -> ModelError:
    """What is wrong, and what to do."""
    start = f"{decoder.name}: the self-check failed: "
    if alone_is_right:
        return ModelError(
            f"{start}an example's gradient changes by {_error(found, plain):.2g} of its length with the batch it is in "
            f"(at most {WORST_ERROR:g} expected): examples, or their padding, touch each other in this model. Run them "
            "one at a time, with --token-budget 1."
        )
    off, names = [], [view.name for view in views]
    for name, one, other in zip(names, _by_view(found, views), _by_view(plain, views), strict=True):
        if not float((one - other).norm()) <= WORST_ERROR * float(other.norm()) + NO_LENGTH * float(plain.norm()):
            off.append(name)
    others = [name for name in names if name not in off]
    remedy = leaving_out(off, others, settings.modules) if others else "no layer is right: use --teacher repsim"
    return ModelError(
        f"{start}gradients differ from plain autograd's by {_error(found, plain):.2g} of their length (at most "
        f"{WORST_ERROR:g} expected), in {some_of(off)}. Leave these layers out: {remedy}"
    )


def _check_forward(decoder: Decoder, pair: Sequence[Example], settings: TeacherSettings) -> dict[str, Any]:
    """The same for teachers that run forward only: an example alone and in a batch."""
    together, alone = (
        ForwardTeacher(decoder, replace(settings, token_budget=budget)).features(pair, "pool")
        for budget in (settings.token_budget, 1)
    )
    expected = torch.from_numpy(alone.vectors)
    if alone.rejected.any():
        raise ModelError(
            f"{decoder.name}: the self-check failed: {int(alone.rejected.sum())} of {len(pair)} features are not "
            "finite. Leave such rows out, or give another model."
        )
    if not _error(torch.from_numpy(together.vectors), expected) <= WORST_ROUNDED_LENGTH:
        raise ModelError(
            f"{decoder.name}: the self-check failed: features change with the batch they are in: examples, or "
            "their padding, touch each other in this model. Run them one at a time, with --token-budget 1."
        )
    error, cosine = (
        _error(torch.from_numpy(together.vectors), expected),
        _cosine(torch.from_numpy(together.vectors), expected),
    )
    return {"examples": len(pair), "layers": 0, "error": error, "cosine": cosine, "bf16_cosine": None}


def reliability(
    decoder: Decoder,
    settings: TeacherSettings,
    queries: Sequence[Example],
    pool: Sequence[Example],
    *,
    checkpoints: Sequence[Checkpoint] = (),
    fit_on: Sequence[Example] | None = None,
) -> dict[str, float | None]:
    """How well a teacher agrees with itself on some examples: mean per-query Spearman of two influence matrices.

    Args:
        fit_on: the pool that a curvature is learnt from, half of it at a time; `pool` when omitted.

    Returns:
        seeds: against another seed of projections, and another half of the pool where a sample is learnt from.
        sketched: against the same gradients unsketched. projected: against the layers' whole gradients.
        precision: bfloat16 against float32. None where there is nothing to compare, or too much to hold.
    """
    fit_on = pool if fit_on is None else fit_on
    settings = replace(settings, fit_examples=max(4, min(settings.fit_examples, len(fit_on) // 2)))

    def influence(changed: TeacherSettings) -> Matrix:
        teacher = make_teacher(decoder, changed, checkpoints=checkpoints)
        teacher.fit(fit_on, queries)
        return cross_influence(teacher.features(queries, "query").vectors, teacher.features(pool, "pool").vectors)

    def fits(source: TeacherSettings) -> bool:
        length = sum(view.length for view in plain_views(decoder, source))
        return length * (len(queries) + len(pool)) <= UNSKETCHED_NUMBERS

    usual = influence(settings)

    def agreement(changed: TeacherSettings, with_: Matrix = usual) -> float:
        return float(spearman_rows(with_, influence(changed)).mean())

    found: dict[str, float | None] = {"seeds": None, "sketched": None, "projected": None, "precision": None}
    if settings.source not in ("last-state", "mean-state"):
        found["seeds"] = agreement(replace(settings, seed=settings.seed + 1))
    if use_bf16(settings.precision, decoder.device):
        found["precision"] = agreement(replace(settings, precision="fp32"))
    if settings.source in FORWARD or checkpoints:
        return found
    plain = replace(settings, curvature="none", code_rank=0)
    whole = replace(plain, source="weights", width=0)
    if settings.curvature == "none" and settings.width and fits(replace(settings, width=0)):
        found["sketched"] = agreement(replace(settings, width=0))
    if settings.source in ("lora-b", "two-sided", "principal") and fits(whole):
        raw = usual if plain == settings else influence(plain)
        found["projected"] = agreement(whole, raw)
    return found
