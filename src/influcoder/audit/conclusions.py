"""What can be concluded from a chain, and what cannot, in sentences for a reviewer."""

from collections.abc import Sequence

from influcoder.audit.checks import Opened
from influcoder.audit.findings import Findings
from influcoder.evaluation.proof import ALL, summarise
from influcoder.provenance import IMPORTED

ALWAYS = (
    "Who made the files: a hash shows that bytes are those that were written, not by whom. Sign the audit, and compare "
    "it with one that was signed when the work was done.",
    "That every word of metrics.json, config.toml, training.parquet, answers.jsonl and an encoder's README.md is as it "
    "was written: they have no hash of their own. What can be recomputed was; a signed audit has the hash of each.",
    "That the scores are causes: influence is a local, first-order estimate at the decoder's weights.",
)


def conclusions(chain: Sequence[Opened], findings: Findings) -> tuple[list[str], list[str]]:
    """(what can be concluded, what cannot), each a sentence; nothing can be concluded from a broken part."""
    unsound = {finding.part for finding in findings if finding.status != "verified"}
    broken = [finding for finding in findings if finding.status == "broken"]
    cannot = [f"That {finding.part} is sound: {finding.what} - no. {finding.detail}" for finding in broken]
    missing = [finding for finding in findings if finding.status == "missing"]
    cannot += [f"Where {finding.part} comes from: {finding.detail}." for finding in missing]
    sentences = {opened.name: _CONCLUSIONS[opened.part.kind](opened) for opened in chain if opened.name not in unsound}
    can = [f"{name}: {sentence}" for name, sentence in sentences.items() if sentence]
    kinds = {opened.part.kind for opened in chain}
    if "proof" not in kinds:
        cannot.append("That the rows found cause the answers: no model was trained without them (`influcoder prove`).")
    if "selection" not in kinds:
        cannot.append("Which rows were used: no selection is in the run.")
    if any(opened.encoder and opened.encoder.trust == {} for opened in chain if opened.part.kind == "encoder"):
        cannot.append("How far to trust one ranking: the encoder measured no agreement per query.")
    return can, [*cannot, *ALWAYS]


def _of_decoder(opened: Opened) -> str:
    record = opened.decoder
    return f"its weights are {record.decoder[:12]}, its tokenizer {record.tokenizer[:12]}." if record else ""


def _of_features(opened: Opened) -> str:
    teacher = opened.provenance.teacher if opened.provenance else None
    if teacher is None:
        return ""
    if teacher.name == IMPORTED:
        return "features that another tool computed; how they were computed is not recorded."
    return f"the influence of the teacher {teacher.name} on the decoder that is recorded."


def _of_encoder(opened: Opened) -> str:
    rho = opened.encoder.measured.get("per_query_spearman") if opened.encoder else None
    if rho is None:
        return "it was distilled from these features; its fidelity was not measured."
    return (
        f"it was distilled from these features, and agrees with its teacher at ρ {rho:.2f} per query on validation "
        "rows, which also chose between models."
    )


def _of_evaluation(opened: Opened) -> str:
    rho, splits = opened.metrics["methods"]["influcoder"]["per_query_spearman"], opened.metrics["splits"]
    return (
        f"on {splits['test_queries']:,} queries and {splits['test_pool']:,} pool rows that it had not seen, that "
        f"encoder agrees with its teacher at ρ {rho:.2f} per query."
    )


def _of_index(opened: Opened) -> str:
    if opened.index is None:
        return ""
    return f"its {len(opened.index):,} vectors were made by that encoder from the texts beside them."


def _of_selection(opened: Opened) -> str:
    selection = opened.selection
    if selection is None:
        return ""
    kept, rows = len(selection.kept_ids), len(selection.ids)
    return f"{kept:,} of the index's {rows:,} rows are kept ({selection.rule}), and their scores give just these."


def _of_proof(opened: Opened) -> str:
    if opened.proof is None:
        return ""
    conditions = [
        f"without {name} rows {numbers['changed']:.0%} of the answers change{_interval(numbers['changed_interval'])}, "
        f"the loss by {numbers['loss_change']:+.2f}"
        for name, numbers in summarise(opened.proof).items()
        if name != ALL
    ]
    return f"models were retrained on the index's rows: {'; '.join(conditions)}."


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f" (95 % interval {ends[0]:.0%} to {ends[1]:.0%})"


_CONCLUSIONS = {
    "decoder": _of_decoder,
    "features": _of_features,
    "encoder": _of_encoder,
    "evaluation": _of_evaluation,
    "index": _of_index,
    "selection": _of_selection,
    "proof": _of_proof,
}
