"""The tiers that are solved in closed form, as the benchmarks make them."""

from collections.abc import Callable, Mapping

from influcoder.decoder_tables import backbone_of
from influcoder.distill import ClosedFormRecipe, Sample, distil_static
from influcoder.encoder import DECODER_TIERS, Floats, InfluenceEncoder
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
    labels: Callable[[], PseudoLabels],
) -> InfluenceEncoder:
    """One of `TIERS`, or `PSEUDO`, of a teacher's decoder.

    Args:
        samples: to train on and to choose by.
        expected: what the decoder expects after each token.
        labels: makes the short tier's, for `PSEUDO` alone.
    """
    return distil_static(
        backbone_of(teacher.decoder),
        *samples,
        ClosedFormRecipe(seed=seed),
        expected=expected,
        forward=teacher.decoder if tier == "forward" else None,
        short=teacher if tier == "short" else None,
        pseudo=labels() if tier == PSEUDO else None,
    )
