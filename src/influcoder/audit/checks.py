"""Each part of a chain on its own: are its bytes those that were written, and do its numbers and settings agree?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from influcoder.attribution.rule import Rule
from influcoder.attribution.selection import Selection
from influcoder.attribution.selection_folder import read_record
from influcoder.audit.findings import Findings
from influcoder.audit.parts import Kind, Part
from influcoder.errors import StoreCorrupt
from influcoder.evaluation.proof import ALL, Proof, read_proof, summarise
from influcoder.indexes.index import Index
from influcoder.indexes.own_encoder import encoder_folder
from influcoder.model.decoder import Decoder
from influcoder.provenance import DecoderRecord, Provenance
from influcoder.store.files import read_json
from influcoder.store.store import Store
from influcoder.student.decoder_tables import check_decoder_tables
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import load
from influcoder.student.few_questions import ASKED
from influcoder.teachers.fitted import learnt_by

REMEDY = "Make the folder again."


@dataclass(slots=True)
class Opened:
    """What could be read of a part."""

    part: Part
    name: str
    provenance: Provenance | None = None
    encoder: InfluenceEncoder | None = None
    index: Index | None = None
    selection: Selection | None = None
    proof: Proof | None = None
    removed: Mapping[str, list[str]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    decoder: DecoderRecord | None = None


def check_part(part: Part, name: str, findings: Findings, max_length: int) -> Opened:
    """Check a part on its own.

    Args:
        name: of the part in the findings.
        max_length: tokens that a decoder is recorded to read.
    """
    checks: Mapping[Kind, Callable[[Opened, Findings], None]] = {
        "decoder": partial(_decoder, max_length=max_length),
        "features": _features,
        "encoder": _encoder,
        "evaluation": _evaluation,
        "index": _index,
        "selection": _selection,
        "proof": _proof,
    }
    opened = Opened(part, name)
    checks[part.kind](opened, findings)
    return opened


def _decoder(opened: Opened, findings: Findings, *, max_length: int) -> None:
    part = opened.part
    opened.decoder = findings.check(
        opened.name,
        "weights, config and tokenizer can be read",
        lambda: Decoder.load(part.path, adapter=part.adapter, max_length=max_length, device="cpu").fingerprint,
    )


def _features(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    stores = {
        side: findings.check(name, f"{side}: manifest and every shard have their hashes", partial(Store, path / side))
        for side in ("queries", "pool", *([ASKED] if (path / ASKED).exists() else []))
    }
    findings.check(name, "the decoder's tables have their hashes", lambda: check_decoder_tables(path))
    if any(store is None for store in stores.values()):
        return
    opened.provenance = made_by = stores["pool"].provenance
    for side in stores.keys() - {"pool"}:
        of_side = stores[side].provenance.of_features()
        findings.compare(name, f"{side} and pool are of one teacher", of_side.json(), made_by.of_features().json())
    if made_by.teacher is not None and made_by.teacher.fitted:
        findings.check(name, "what the teacher learnt is what these were made with", lambda: learnt_by(path, made_by))
    opened.metrics = _metrics(opened, findings)
    if opened.metrics:
        counts = {side: len(stores[side]) for side in ("queries", "pool")}
        recorded = {side: opened.metrics.get(side) for side in counts}
        findings.compare(name, "metrics.json counts these rows", recorded, counts)
        teacher = {"teacher": made_by.json().get("teacher", {})}
        recorded = {"teacher": opened.metrics.get("teacher", {}).get("teacher", {})}
        findings.compare(name, "metrics.json names the teacher that made them", recorded, teacher)
    if made_by.teacher is not None:
        _config(opened, findings, {"teacher": made_by.teacher.name, **made_by.teacher.settings})


def _encoder(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    opened.encoder = findings.check(name, "its record and every file have their hashes", lambda: load(path))
    if opened.encoder is None:
        return
    opened.provenance = opened.encoder.provenance
    findings.check(name, "its weights give the fingerprint that is recorded", lambda: check_fingerprint(path))
    opened.metrics = _metrics(opened, findings)
    if "validation" in opened.metrics:
        reported, measured = opened.metrics["validation"], dict(opened.encoder.measured)
        findings.compare(name, "metrics.json reports the fidelity that is recorded", reported, measured)
    if (student := opened.provenance.student) is not None:
        _config(opened, findings, {"recipe": student.recipe, "seed": student.seed})


def check_fingerprint(folder: Path) -> None:
    """Check that an encoder's weights give its fingerprint.

    Raises:
        StoreCorrupt: they do not.
    """
    encoder = load(folder)
    recorded = vars(encoder).pop("fingerprint")
    if encoder.fingerprint != recorded:
        raise StoreCorrupt(f"{folder}: recorded {recorded[:12]}, its weights give {encoder.fingerprint[:12]}.")


def _evaluation(opened: Opened, findings: Findings) -> None:
    opened.metrics = _metrics(opened, findings)


def _index(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    opened.index = findings.check(
        name, "its manifest has its hash and names shards that are there", lambda: Index(path)
    )
    if opened.index is None:
        return
    index = opened.index
    findings.check(name, "every shard has its hash", index.store.verify)
    findings.check(name, "the scales of its code have their hash", lambda: index.code)
    if (path / "index.faiss").exists():
        findings.check(name, "index.faiss has its hash", index.approximate.verify)
    opened.encoder = findings.check(name, "the encoder in it is whole, and the one that made it", lambda: index.encoder)
    if opened.encoder is not None:
        opened.provenance = opened.encoder.provenance
        folder = encoder_folder(path, opened.encoder.fingerprint)
        findings.check(name, "that encoder's weights give its fingerprint", lambda: check_fingerprint(folder))
    opened.metrics = _metrics(opened, findings)
    if "rows" in opened.metrics:
        recorded = {"rows": opened.metrics["rows"]}
        findings.compare(name, "metrics.json counts these rows", recorded, {"rows": len(index)})


def _selection(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    record = findings.check(name, "its record and every file have their hashes", lambda: read_record(path))
    opened.selection = selection = findings.check(name, "every row has a reason", lambda: Selection.load(path))
    if selection is None:
        return
    if record is not None:
        actual = {"manifest": selection.manifest, "made_by": dict(selection.made_by), "kept": len(selection.kept_ids)}
        recorded = {key: record[key] for key in actual}
        findings.compare(name, "selection.json and selection.parquet say the same", recorded, actual)
    opened.metrics = _metrics(opened, findings)
    if opened.metrics:
        counts = selection.counts()
        recorded = {key: opened.metrics.get(key) for key in counts}
        findings.compare(name, "metrics.json counts these rows", recorded, counts)
    if "rule" in selection.made_by and (config := opened.part.config):
        keys = {field.name for field in fields(Rule)} | ({"against"} if "earlier" not in config else set())
        configured = {
            key: _number(value) for key, value in config.items() if key in keys and value not in (None, False, [])
        }
        rule: dict[str, Any] = {key: _number(value) for key, value in selection.made_by["rule"].items()}
        if "earlier" not in config:
            configured |= {"by": config.get("by"), "against": "against" in configured}
            rule |= {"by": selection.made_by["by"], "against": "against" in selection.made_by}
        findings.compare(name, "config.toml names the rule that is recorded", configured, rule)


def _proof(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    contents = findings.check(name, "its record and every training have their hashes", lambda: read_proof(path))
    if contents is None:
        return
    opened.provenance, opened.proof, opened.removed = contents
    opened.metrics = _metrics(opened, findings)
    if opened.metrics:
        recorded, computed = _rounded(opened.metrics["conditions"]), _rounded(summarise(opened.proof))
        findings.compare(name, "metrics.json is what the trainings give", recorded, computed)
        training = opened.provenance.training or {}
        seeds = {"remove": opened.metrics["removed"], "seeds": len(opened.proof[ALL])}
        _config(opened, findings, {**seeds, **training})
    if (path / "answers.jsonl").exists():
        findings.check(name, "answers.jsonl is what the models answered", lambda: _answers(path, opened.proof or {}))


def _answers(path: Path, proof: Proof) -> None:
    """Check that answers.jsonl has the answers and losses of the trainings for every query and seed.

    Raises:
        StoreCorrupt: it does not.
    """
    rows = [orjson.loads(line) for line in (path / "answers.jsonl").read_bytes().splitlines()]
    written = [(row["seed"], row["answers"], row["losses"]) for row in rows]
    expected = [
        (
            seed,
            {condition: outcomes[seed].answers[query] for condition, outcomes in proof.items()},
            {condition: float(outcomes[seed].losses[query]) for condition, outcomes in proof.items()},
        )
        for query in range(len(proof[ALL][0].answers))
        for seed in range(len(proof[ALL]))
    ]
    if written != expected:
        raise StoreCorrupt(f"{path / 'answers.jsonl'}: other answers or losses than in trainings/.")


def _metrics(opened: Opened, findings: Findings) -> Mapping[str, Any]:
    path = opened.part.path / "metrics.json"
    if not path.exists():
        return {}
    return findings.check(opened.name, "metrics.json can be read", lambda: read_json(path, REMEDY)) or {}


def _config(opened: Opened, findings: Findings, recorded: Mapping[str, Any]) -> None:
    """Compare the settings in config.toml with those that are recorded, where both have them."""
    config = opened.part.config
    shared = [key for key in config if key in recorded and config[key] not in (None, False, [], "auto")]
    if shared:
        configured, actual = ({key: _number(record[key]) for key in shared} for record in (config, recorded))
        findings.compare(opened.name, "config.toml names the settings that are recorded", configured, actual)


def _number(value: Any) -> Any:
    """A setting as it is compared: 5% is 0.05."""
    if isinstance(value, str):
        try:
            return float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
        except ValueError:
            return value
    return list(value) if isinstance(value, tuple) else value


def _rounded(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers, rounded to what every processor computes alike."""
    return {
        name: {key: None if value is None else np.round(value, 6).tolist() for key, value in numbers.items()}
        for name, numbers in conditions.items()
    }
