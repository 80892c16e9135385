"""Sentences that the terminal and the page share: what was left out of a training, and how far to trust a ranking."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from influcoder.report.numbers import percent

if TYPE_CHECKING:
    from influcoder.attribution.certified import Certified

WIDE = 1.5
"""a band of expected agreements this wide is of no use, and is left out"""


def trained_without(condition: str, removed: int) -> str:
    """A condition of a proof in words.

    >>> trained_without("found", 20), trained_without("tfidf", 1)
    ('without the 20 rows found', "without TF-IDF's row")
    """
    rows = "row" if removed == 1 else f"{removed} rows"
    named = {
        "all": "on all rows",
        "found": f"without the {rows} found",
        "named": f"without the {rows} named",
        "random": f"without {'a' if removed == 1 else removed} random {'row' if removed == 1 else 'rows'}",
        "tfidf": f"without TF-IDF's {'row' if removed == 1 else removed}",
    }
    return named.get(condition, f"without the {rows} by {condition}")


def agreement_sentence(expected: Sequence[float]) -> str:
    """The expected agreement of the encoder's ranking in a sentence: (ρ, low, high).

    >>> agreement_sentence((0.5, 0.25, 0.75))
    "Expected agreement of the encoder's ranking with the teacher's: ρ 0.50 (four of five such queries: 0.25 to 0.75)."
    """
    rho, low, high = expected
    band = f" (four of five such queries: {low:.2f} to {high:.2f})" if high - low < WIDE else ""
    return f"Expected agreement of the encoder's ranking with the teacher's: ρ {rho:.2f}{band}."


def memorised_sentence(count: int, shown: int) -> str:
    """A warning about rows that the model has memorised.

    >>> memorised_sentence(1, 5)
    '1 of the 5 rows shown is memorised: its gradient is mostly noise. Take gradients from an earlier checkpoint.'
    """
    are = "are memorised: their gradients are" if count > 1 else "is memorised: its gradient is"
    return f"{count} of the {shown} rows shown {are} mostly noise. Take gradients from an earlier checkpoint."


def drift_sentence(check: Mapping[str, Any]) -> str:
    """The result of a check of drift, as `influcoder.drift` gives it.

    >>> agreements = {"agreement_then": {"mean": 0.42}, "agreement_now": {"mean": 0.18}, "interval_95": [0.1, 0.26]}
    >>> drift_sentence({"checked": "2026-11-30", "decoder": "new", "verdict": "stale", **agreements})
    'Drift checked on 2026-11-30: agreement 0.42 → 0.18 (0.10 to 0.26) on decoder new: stale.'
    """
    then, now = (check[f"agreement_{when}"]["mean"] for when in ("then", "now"))
    low, high = check["interval_95"]
    return (
        f"Drift checked on {check['checked']}: agreement {then:.2f} → {now:.2f} ({low:.2f} to {high:.2f}) on decoder "
        f"{check['decoder']}: {check['verdict']}."
    )


def certified_sentence(certified: "Certified", shown: int, opponents: bool = False) -> str:
    """What a random sample of the rows that were not re-checked proves about the others.

    >>> from influcoder.attribution.certified import Certified
    >>> certified_sentence(Certified(200, 0, 940, 0.01486, 0.95), 3)
    'With 95 % confidence at most 1.5 % of the other rows (of 940) score above the 3rd found; 0 of 200 random ones do.'
    """
    end = "th" if shown % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(shown % 10, "th")
    beyond = f"score {'below' if opponents else 'above'} the {shown}{end} found"
    if certified.others == 0:
        return "Every row was re-checked."
    if certified.sampled == certified.others:
        return f"All {certified.others:,} other rows were re-checked as well: {certified.above:,} {beyond}."
    at_most = _rounded_up(100 * certified.at_most)
    return (
        f"With {percent(certified.confidence)} confidence at most {at_most} % of the other rows (of "
        f"{certified.others:,}) {beyond}; {certified.above:,} of {certified.sampled:,} random ones do."
    )


def certified_together(certified: Mapping[str, Any]) -> str:
    """The bounds of several queries in one sentence.

    Args:
        certified: `sampled`, `confidence`, and `at_most` (the mean) and `worst` over the queries.

    >>> certified_together({"sampled": 200, "confidence": 0.95, "at_most": 0.0121, "worst": 0.024})
    'With 95 % confidence at most 1.3 % of the rows that were not re-checked score above the last row found (mean over
    the questions; 2.4 % for the worst), by 200 random rows each.'
    """
    at_most, worst = (_rounded_up(100 * certified[name]) for name in ("at_most", "worst"))
    return (
        f"With {percent(certified['confidence'])} confidence at most {at_most} % of the rows that were not re-checked "
        f"score above the last row found (mean over the questions; {worst} % for the worst), by "
        f"{certified['sampled']:,} random rows each."
    )


def _rounded_up(value: float) -> str:
    """Two digits, rounded up."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return f"{math.ceil(value / step - 1e-9) * step:.2g}" if value < 99 else "100"
