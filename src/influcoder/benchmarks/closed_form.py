"""The tiers that are solved in closed form, as the benchmarks make them."""

from collections.abc import Mapping, Sequence
from functools import partial

from influcoder.decoder_tables import backbone_of
from influcoder.distill import ClosedFormRecipe, Sample, distil_static
from influcoder.encoder import DECODER_TIERS, Floats, InfluenceEncoder
from influcoder.examples import Example
from influcoder.pseudo import PseudoLabels
from influcoder.teachers import Teacher

TIERS = ("static", *DECODER_TIERS)
PSEUDO = "static-from-short"
"""the static tier that learns from the short tier's pseudo-labels as well"""


def distilled(
    tier: str,
    teacher: Teacher,
    samples: tuple[Sample, Sample],
    seed: int,
    expected: Mapping[str, Floats],
    unlabelled: tuple[Sequence[Example], Sequence[Example]],
) -> InfluenceEncoder:
    """One of `TIERS`, or `PSEUDO`, of a teacher's decoder.

    Args:
        samples: to train on and to choose by.
        expected: what the decoder expects after each token.
        unlabelled: queries and pool examples that a short tier labels, for `PSEUDO` alone.
    """
    backbone, recipe = backbone_of(teacher.decoder), ClosedFormRecipe(seed=seed)
    solve = partial(distil_static, backbone, *samples, recipe, expected=expected)
    return solve(
        forward=teacher.decoder if tier == "forward" else None,
        short=teacher if tier == "short" else None,
        pseudo=PseudoLabels.by(solve(short=teacher, refit=False), *unlabelled) if tier == PSEUDO else None,
    )
