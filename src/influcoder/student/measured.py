"""How an encoder agrees with its teacher on validation examples: kept on its card and for `influcoder drift`."""

import numpy as np

from influcoder.maths.arrays import Floats
from influcoder.maths.drift import LEAST_POOL, LEAST_QUERIES, Agreement
from influcoder.maths.metrics import agreement
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample


def measure(encoder: InfluenceEncoder, validation: Sample, scores: Floats | None = None) -> None:
    """Record on an encoder how well it agrees with its teacher on validation examples.

    Args:
        scores: (n_queries, n_pool) its scores of them; computed from their texts when omitted.
    """
    if scores is None:
        scores = encoder.encode_query(validation.queries) @ encoder.encode_pool(validation.pool).T
    lengths = np.array([len(example.completion) for example in validation.pool])
    metrics = agreement(validation.influence, scores, lengths)
    encoder.measured = {name: value for name, value in metrics.items() if isinstance(value, float)}
    if len(validation.queries) >= LEAST_QUERIES and len(validation.pool) >= LEAST_POOL:
        encoder.agreement = Agreement.of(validation.influence, scores)
