"""Pseudo-labels: a slow student labels texts without a gradient, for a fast student to learn from.

The number of gradients limits a fast student, and each is expensive. A slow tier (`short`, `forward`), distilled from
the same gradients, predicts the spectral coordinates of further texts for a part of a gradient's cost; the fast student
learns from both (pseudo-labels, Lee 2013; a teacher's assistant, Mirzadeh et al. 2020, arXiv 1902.03393).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influcoder.data.examples import Example, Role
from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats
from influcoder.progress import progress
from influcoder.student.encoder import InfluenceEncoder

AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class PseudoLabels:
    """Examples without gradients, and the spectral coordinates that a student gives them.

    Attributes:
        queries, pool: the examples of each role.
        query_coordinates, pool_coordinates: (n, k) of each.
        student: the one that gave them.

    >>> labels = PseudoLabels.by(short, [], unlabelled)  # doctest: +SKIP
    >>> fast = distill_static(backbone, train, validation, pseudo=labels)  # doctest: +SKIP
    """

    queries: Sequence[Example]
    pool: Sequence[Example]
    query_coordinates: Floats
    pool_coordinates: Floats
    student: InfluenceEncoder

    @classmethod
    def by(cls, student: InfluenceEncoder, queries: Sequence[Example], pool: Sequence[Example]) -> "PseudoLabels":
        """Label examples with a distilled student, loaded with its decoder where it runs one.

        Raises:
            ModelError: the student was not solved in closed form, or runs a decoder that it was loaded without.
        """
        with progress("pseudo-labels", len(queries) + len(pool)) as advance:

            def labelled(examples: Sequence[Example], role: Role) -> Floats:
                parts = []
                for start in range(0, len(examples) or 1, AT_ONCE):
                    parts.append(student.coordinates(examples[start : start + AT_ONCE], role))
                    advance(len(parts[-1]))
                return np.concatenate(parts)

            return cls(queries, pool, labelled(queries, "query"), labelled(pool, "pool"), student)

    def of(self, role: Role) -> tuple[Sequence[Example], Floats]:
        """The examples of a role and their (n, k) coordinates."""
        return (self.queries, self.query_coordinates) if role == "query" else (self.pool, self.pool_coordinates)

    @property
    def record(self) -> dict[str, Any]:
        """What an encoder that learnt from them records of them, as fields of `StudentRecord`."""
        return {
            "pseudo_labels_by": self.student.tier,
            "pseudo_queries": len(self.queries),
            "pseudo_pool": len(self.pool),
        }

    def refuse_other_basis(self, query_projector: Floats) -> None:
        """Check that the coordinates are those that this projector gives.

        Raises:
            ConfigError: the student was distilled from other examples.
        """
        projector, tolerance = self.student.query_projector, 0.02 * float(np.abs(query_projector).max())
        if (
            projector is None
            or projector.shape != query_projector.shape
            or not np.allclose(projector, query_projector, rtol=0, atol=tolerance)
        ):
            raise ConfigError(
                "the student that gave the pseudo-labels was distilled from other examples, so its coordinates mean "
                "something else. Distill both from the same training split, with the same number of dimensions."
            )
