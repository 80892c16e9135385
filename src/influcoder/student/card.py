"""What the cards of encoders, indexes and selections have in common: front matter, fidelity, evidence, limits, origin.

A card says what was measured and no more. Where nothing shows that rows cause answers, it says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from influcoder.provenance import flat
from influcoder.student.encoder import InfluenceEncoder

CARD = "README.md"


def front_matter(*tags: str, base_model: str | None = None, license_name: str | None = None) -> str:
    """The YAML at the top of a card."""
    fields = {"library_name": "influcoder", "base_model": base_model, "license": license_name}
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in ("influcoder", *tags)), "---"])


def agreement_section(measured: Mapping[str, Any], name: str = "its teacher") -> str:
    """How well an encoder agrees with its teacher, on validation examples."""
    return f"""## Agreement with {name}

On validation examples, which also chose between models; `influcoder evaluate` measures it on data of your own.

| metric | value |
|---|---|
{lines_of("| {} | {:.3f} |", sorted(measured.items()))}"""


def evidence_section(proof: Mapping[str, Any] | None) -> str:
    """What retraining without some rows has shown.

    Args:
        proof: the metrics.json of `influcoder prove`.
    """
    if proof is None:
        return """## Causal evidence

None: no model was trained without the rows that are found. `influcoder prove` does it."""
    rows = [
        (name, numbers["loss_change"], numbers["changed"], _ends(numbers["changed_interval"]))
        for name, numbers in proof["conditions"].items()
        if name != "all"
    ]
    return f"""## Causal evidence

A model was trained again without {proof["removed"]} of {proof["pool"]} rows, {len(proof["seeds"])} times for each way \
of choosing them, and asked {proof["queries"]} questions again.

| left out | change of loss | answers changed | 95 % interval |
|---|---|---|---|
{lines_of("| {} | {:+.2f} | {:.0%} | {} |", rows)}"""


def limits_section(*further: str) -> str:
    """What the numbers do not show."""
    limits = (
        "It speaks of the decoder and the checkpoint named below, and of no other model.",
        "It agrees best on examples like those it was distilled from.",
        "The teacher itself is a local, first-order estimate at the decoder's present weights, not a proof of cause.",
    )
    return "## Limits\n\n" + lines_of("- {}", [(limit,) for limit in (*limits, *further)])


def made_from_section(record: Mapping[str, Any]) -> str:
    """What it was made from, one value per line."""
    return "## Made from\n\n" + lines_of("- {}: `{}`", flat(record))


def card_of_encoder_parts(encoder: InfluenceEncoder, proof: Mapping[str, Any] | None, *limits: str) -> str:
    """The sections about the encoder, for the card of what was made with it."""
    sections = (
        agreement_section(encoder.measured, "the teacher"),
        evidence_section(proof),
        limits_section(*limits),
        made_from_section(encoder.provenance.json()),
    )
    return "\n\n".join(sections)


def lines_of(form: str, rows: Iterable[Sequence[Any]]) -> str:
    """One formatted line per row."""
    return "\n".join(form.format(*row) for row in rows)


def _ends(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.0%} to {interval[1]:.0%}"
