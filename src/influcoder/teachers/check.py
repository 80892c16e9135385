"""Before a long job: do the gradients of this very model agree with themselves, and how well does the teacher?

`self_check` finds what would spoil every number silently: examples that change with the batch they are in, a
precision that the model does not bear, gradients that are zero or not finite. `reliability` measures the ceiling:
how well the teacher agrees with itself, which no student can surpass and no reader should be kept from.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from influcoder.data.examples import Example
from influcoder.errors import ModelError
from influcoder.maths.arrays import Matrix
from influcoder.maths.influence import cross_influence
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.model.precision import use_bf16
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.kronecker import FittedViews
from influcoder.teachers.make import make_teacher
from influcoder.teachers.raw import RawFeatures, plain_views
from influcoder.teachers.settings import FORWARD, TeacherSettings

PROBE = 16
"""queries of the reliability probe; three times as many pool examples"""
LEARN_FROM = 512
"""pool examples that the probe learns a curvature from, half at a time; the job itself may learn from more"""
UNSKETCHED_NUMBERS = 2**28
"""the most that the probe holds to compare sketched with unsketched: 1 GiB"""
WORST_BATCH_ERROR = 1e-3
WORST_BF16_COSINE = 0.97


def check_teacher(
    decoder: Decoder,
    queries: Sequence[Example],
    pool: Sequence[Example],
    settings: TeacherSettings,
    checkpoints: Sequence[Checkpoint] = (),
) -> dict[str, Any]:
    """`self_check` and `reliability` on a few examples of each side.

    Raises:
        ModelError: the gradients of some examples disagree with themselves; the message holds the numbers.
    """
    rng = np.random.default_rng(settings.seed)
    asked, rows = (
        [side[row] for row in np.sort(rng.permutation(len(side))[:size])]
        for side, size in ((queries, PROBE), (pool, 3 * PROBE))
    )
    sample = [pool[row] for row in np.sort(rng.permutation(len(pool))[:LEARN_FROM])]
    return {
        "self_check": self_check(decoder, [*asked[:4], *rows[:12]], settings),
        "reliability": reliability(decoder, settings, asked, rows, checkpoints=checkpoints, fit_on=sample),
    }


def self_check(decoder: Decoder, examples: Sequence[Example], settings: TeacherSettings) -> dict[str, Any]:
    """Check the gradients of some examples; returns the numbers.

    Rank 8 LoRA-B gradients of every layer that `settings` look at are compared: alone against in a batch
    (relative error of the worst example), and bfloat16, if it is to be used, against float32 (cosine of the worst).

    Raises:
        ModelError: they disagree, or some are zero or not finite; the message holds the numbers.
    """
    small = TeacherSettings(
        rank=8, width=0, modules=settings.modules, precision="fp32", token_budget=settings.token_budget
    )
    alone, together = (
        _raw(decoder, replace(small, token_budget=budget), examples) for budget in (1, small.token_budget)
    )
    bad = [one.id for one, row in zip(examples, alone, strict=True) if not bool(row.isfinite().all())]
    zero = [one.id for one, row in zip(examples, alone, strict=True) if not bool(row.any())]
    found: dict[str, Any] = {
        "examples": len(examples),
        "not_finite": len(bad),
        "zero": len(zero),
        "batch_error": _worst_error(together, alone),
        "bf16_cosine": None,
    }
    if use_bf16(settings.precision, decoder.device):
        rough = _raw(decoder, replace(small, precision="bf16"), examples)
        found["bf16_cosine"] = float(torch.cosine_similarity(rough, alone).min())
    complaints = [
        f"{len(bad)} gradients are not finite, {bad[0]!r} among them" if bad else "",
        f"{len(zero)} gradients are zero, {zero[0]!r} among them" if zero else "",
        f"an example's gradient changes by {found['batch_error']:.2g} of its length with the batch it is in (at most "
        f"{WORST_BATCH_ERROR:g} expected)"
        if not bad and found["batch_error"] > WORST_BATCH_ERROR
        else "",
        f"bfloat16 gradients have cosine {found['bf16_cosine']:.3f} with float32 ones (at least "
        f"{WORST_BF16_COSINE} expected): use --precision fp32"
        if not bad and found["bf16_cosine"] is not None and not found["bf16_cosine"] >= WORST_BF16_COSINE
        else "",
    ]
    if any(complaints):
        raise ModelError(f"{decoder.name}: the self-check failed: {'; '.join(filter(None, complaints))}.")
    return found


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


def _raw(decoder: Decoder, settings: TeacherSettings, examples: Sequence[Example]) -> Tensor:
    views = FittedViews(plain_views(decoder, settings))
    return RawFeatures(decoder, settings, views, bf16=settings.precision == "bf16")(decoder.tokenise(examples), "pool")[
        0
    ]


def _worst_error(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1).clamp_min(1e-30)).max())
