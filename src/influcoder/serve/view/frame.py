"""The strip around every view: what is served, how far to trust it, and whether it is still what lies on the disk."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from influcoder.serve.explorer import Explorer

MEASURED = {
    "per_query_spearman": "Spearman ρ per question",
    "aggregated_spearman": "Spearman ρ aggregated",
    "ndcg_at_10": "NDCG@10",
    "top_10_percent_overlap": "top-10 % overlap",
}


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The encoder's agreement with its teacher on held-out questions.

    Attributes:
        rho: mean Spearman ρ of a question.
        low, high: between which that of about four of five questions lies; None where that was not measured.
    """

    rho: float
    low: float | None
    high: float | None
    ndcg: float | None


def held_out(explorer: Explorer) -> HeldOut | None:
    """What the encoder's folder says of its agreement; None where it says nothing."""
    encoder = explorer.index.encoder
    measured = encoder.measured
    rho = measured.get("per_query_spearman")
    if not isinstance(rho, float):
        return None
    known = encoder.trust.get("text")
    low, high = (None, None) if known is None else (known.level + known.low, known.level + known.high)
    return HeldOut(rho, low, high, measured.get("ndcg_at_10"))


def measured(explorer: Explorer) -> list[tuple[str, float]]:
    """The encoder's numbers on held-out questions, with their names."""
    held = explorer.index.encoder.measured
    return [(told, held[name]) for name, told in MEASURED.items() if isinstance(held.get(name), float)]


def flat(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """A nested record as names and values.

    >>> list(flat({"teacher": {"name": "gist", "seed": 0}, "rows": 3}))
    [('teacher.name', 'gist'), ('teacher.seed', 0), ('rows', 3)]
    """
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        elif value not in (None, [], ()):
            yield f"{before}{name}", value


class Freshness:
    """Whether the index on the disk is the one that is served."""

    def __init__(self, explorer: Explorer) -> None:
        self._file = explorer.index.folder / ("manifest.json" if hasattr(explorer.index, "store") else "lance.json")
        self._served = self._seal()

    @property
    def stale(self) -> bool:
        """Whether rows were added or removed since."""
        return self._seal() != self._served

    def _seal(self) -> str:
        try:
            return str(orjson.loads(self._file.read_bytes()).get("sha256"))
        except (OSError, ValueError):
            return "missing"
