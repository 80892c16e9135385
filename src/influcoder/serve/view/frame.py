"""The strip around every view: what made the index, and how far to trust it."""

from dataclasses import dataclass

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
    """The agreement that the encoder's folder records; None where it records none."""
    encoder = explorer.index.encoder
    measured = encoder.measured
    rho = measured.get("per_query_spearman")
    if not isinstance(rho, float):
        return None
    trust = encoder.trust.get("text")
    low, high = (None, None) if trust is None else (trust.level + trust.low, trust.level + trust.high)
    return HeldOut(rho, low, high, measured.get("ndcg_at_10"))


def measured(explorer: Explorer) -> list[tuple[str, float]]:
    """The encoder's numbers on held-out questions, with their names."""
    numbers = explorer.index.encoder.measured
    return [(title, numbers[name]) for name, title in MEASURED.items() if isinstance(numbers.get(name), float)]
