"""Before a long job: are the gradients of this model right, and how well does the teacher agree with itself?"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from influcoder.data.examples import Example
from influcoder.model.decoder import Decoder
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.reliability import reliability
from influcoder.teachers.self_check import self_check
from influcoder.teachers.settings import TeacherSettings

PROBE = 16
"""queries of the reliability probe; three times as many pool examples"""
LEARN_FROM = 512
"""pool examples that the probe learns a curvature from, half at a time; the job itself may learn from more"""


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
    checked = {"self_check": self_check(decoder, [asked[0], *rows, *asked[1:]], settings)}
    if reliable:
        checked["reliability"] = reliability(decoder, settings, asked, rows, checkpoints=checkpoints, fit_on=sample)
    return checked
