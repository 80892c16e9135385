"""What follows from a chain, and what does not, in sentences for a reviewer."""

from collections.abc import Mapping, Sequence
from typing import Any

from influcoder.audit.checks import Opened
from influcoder.audit.findings import Findings
from influcoder.evaluation.proof import ALL, summarise
from influcoder.provenance import IMPORTED

ALWAYS = (
    "Who made the files: a hash shows that bytes are those that were written, not by whom. Sign the audit, and compare "
    "it with one that was signed when the work was done.",
    "That every word of metrics.json, config.toml, training.parquet, answers.jsonl and an encoder's README.md is as it "
    "was written: they carry no hash of their own. What can be computed again was; a signed audit holds all of them.",
    "That the scores are causes: influence is a local, first-order estimate at the decoder's weights.",
)


def conclusions(opened: Sequence[Opened], findings: Findings) -> tuple[list[str], list[str]]:
    """(what can be concluded, what cannot), each a sentence; of a part that is broken, nothing follows."""
    unsound = {one.part for one in findings if one.status != "verified"}
    can: list[str] = []
    cannot = [f"That {one.part} is sound: {one.what} - no. {one.detail}" for one in findings if one.status == "broken"]
    cannot += [f"Where {one.part} comes from: {one.detail}." for one in findings if one.status == "missing"]
    for one in opened:
        if one.name not in unsound and (said := _SAYS[one.part.kind](one)):
            can.append(f"{one.name}: {said}")
    if not any(one.part.kind == "proof" for one in opened):
        cannot.append("That the rows found cause the answers: no model was trained without them (`influcoder prove`).")
    if not any(one.part.kind == "selection" for one in opened):
        cannot.append("Which rows were used: no selection is in the run.")
    encoders = [one for one in opened if one.part.kind == "encoder" and one.encoder is not None]
    if any(one.encoder.trust == {} for one in encoders if one.encoder):
        cannot.append("How far to trust one ranking: the encoder measured no agreement by query.")
    return can, [*cannot, *ALWAYS]


def _of_decoder(one: Opened) -> str:
    return (
        f"its weights are {one.decoder.decoder[:12]}, its tokenizer {one.decoder.tokenizer[:12]}."
        if one.decoder
        else ""
    )


def _of_features(one: Opened) -> str:
    teacher = one.provenance.teacher if one.provenance else None
    if teacher is None:
        return ""
    if teacher.name == IMPORTED:
        return "features that another tool computed; how, is not recorded."
    return f"the influence of the teacher {teacher.name} on the decoder that is recorded."


def _of_encoder(one: Opened) -> str:
    rho = one.encoder.measured.get("per_query_spearman") if one.encoder else None
    if rho is None:
        return "it was distilled from these features; its fidelity was not measured."
    return (
        f"it was distilled from these features, and agrees with its teacher at ρ {rho:.2f} per query on validation "
        "rows, which also chose between models."
    )


def _of_evaluation(one: Opened) -> str:
    rho, splits = one.metrics["methods"]["influcoder"]["per_query_spearman"], one.metrics["splits"]
    return (
        f"on {splits['test_queries']:,} queries and {splits['test_pool']:,} pool rows that it had not seen, that "
        f"encoder agrees with its teacher at ρ {rho:.2f} per query."
    )


def _of_index(one: Opened) -> str:
    return f"its {len(one.index):,} vectors were made by that encoder of the texts beside them." if one.index else ""


def _of_selection(one: Opened) -> str:
    if one.selection is None:
        return ""
    kept, rows = len(one.selection.kept_ids), len(one.selection.ids)
    return f"{kept:,} of the index's {rows:,} rows are kept ({one.selection.rule}), and their scores give just these."


def _of_proof(one: Opened) -> str:
    if one.proof is None:
        return ""
    told = [
        f"without {name} rows {numbers['changed']:.0%} of the answers change{_ends(numbers)}, the loss by "
        f"{numbers['loss_change']:+.2f}"
        for name, numbers in summarise(one.proof).items()
        if name != ALL
    ]
    return f"models were trained again on the index's rows: {'; '.join(told)}."


def _ends(numbers: Mapping[str, Any]) -> str:
    ends = numbers["changed_interval"]
    return "" if ends is None else f" (95 % interval {ends[0]:.0%} to {ends[1]:.0%})"


_SAYS = {
    "decoder": _of_decoder,
    "features": _of_features,
    "encoder": _of_encoder,
    "evaluation": _of_evaluation,
    "index": _of_index,
    "selection": _of_selection,
    "proof": _of_proof,
}
