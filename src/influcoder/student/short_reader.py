"""What the short tier reads of a text: the teacher's gradient of the text cut short.

A gradient's cost grows with its text, and the end of the prompt with the beginning of the completion already gives
nearly the same direction. Its spectral coordinates are read as features, beside those that need no network, and the
head learns a weight for them.
"""

from collections.abc import Sequence

from influcoder.data.examples import Example, Role
from influcoder.maths.arrays import Floats
from influcoder.teachers.teacher import Teacher

GROUP = "short"


class ShortReader:
    """Projects the features of shortened texts.

    Args:
        teacher: on a decoder that reads little of a text (`Decoder.shortened`).
        query_projector, pool_projector: (width, k) from a role's features to coordinates.
    """

    def __init__(self, teacher: Teacher, query_projector: Floats, pool_projector: Floats) -> None:
        self.teacher = teacher
        self.decoder = teacher.decoder
        self._projectors: dict[Role, Floats] = {"query": query_projector, "pool": pool_projector}

    def read(self, examples: Sequence[Example], role: Role) -> dict[str, Floats]:
        """(n, k) coordinates, as group `short`; zeros for an example without a gradient."""
        return {GROUP: self.teacher.features(examples, role).vectors @ self._projectors[role]}
