"""How well does a teacher agree with itself? No student can be closer to it than that."""

from collections.abc import Sequence
from dataclasses import replace

from influcoder.data.examples import Example
from influcoder.maths.arrays import Matrix
from influcoder.maths.influence import cross_influence
from influcoder.maths.metrics import spearman_rows
from influcoder.model.decoder import Decoder
from influcoder.model.precision import use_bf16
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.make import make_teacher
from influcoder.teachers.raw import plain_views
from influcoder.teachers.settings import FORWARD, TeacherSettings

UNSKETCHED_NUMBERS = 2**28
"""the most that is held to compare sketched with unsketched: 1 GiB"""


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

    agreements: dict[str, float | None] = {"seeds": None, "sketched": None, "projected": None, "precision": None}
    if settings.source not in ("last-state", "mean-state"):
        agreements["seeds"] = agreement(replace(settings, seed=settings.seed + 1))
    if use_bf16(settings.precision, decoder.device):
        agreements["precision"] = agreement(replace(settings, precision="fp32"))
    if settings.source in FORWARD or checkpoints:
        return agreements
    plain = replace(settings, curvature="none", code_rank=0)
    whole = replace(plain, source="weights", width=0)
    if settings.curvature == "none" and settings.width and fits(replace(settings, width=0)):
        agreements["sketched"] = agreement(replace(settings, width=0))
    if settings.source in ("lora-b", "two-sided", "principal") and fits(whole):
        raw = usual if plain == settings else influence(plain)
        agreements["projected"] = agreement(whole, raw)
    return agreements
