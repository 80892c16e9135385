"""What validation examples say of an encoder: kept with it, on its card and for `influcoder drift`."""

import numpy as np

from influcoder.maths.arrays import Floats
from influcoder.maths.drift import LEAST_POOL, LEAST_QUERIES, Agreement
from influcoder.maths.metrics import agreement
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample


def measure(encoder: InfluenceEncoder, validation: Sample, scores: Floats | None = None) -> None:
    """Let an encoder remember how it agrees with its teacher on validation examples.

    Args:
        scores: (n_queries, n_pool) its scores of them; from text, both sides, when omitted.
    """
    if scores is None:
        scores = encoder.encode_query(validation.queries) @ encoder.encode_pool(validation.pool).T
    encoder.measured = measured_scores(validation, scores)
    if len(validation.queries) >= LEAST_QUERIES and len(validation.pool) >= LEAST_POOL:
        encoder.agreement = Agreement.of(validation.influence, scores)


def measured_scores(validation: Sample, scores: Floats) -> dict[str, float]:
    """The agreement of scores of validation examples."""
    lengths = np.array([len(one.completion) for one in validation.pool])
    found = agreement(validation.influence, scores, lengths)
    return {name: value for name, value in found.items() if isinstance(value, float)}
