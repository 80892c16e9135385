"""Each part of a chain by itself: are its bytes those that were written, and do its numbers and settings agree?"""

from collections.abc import Mapping
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
from influcoder.audit.parts import Part
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
    """Check a part by itself.

    Args:
        name: by which the findings call it.
        max_length: tokens that a decoder is recorded to read.
    """
    opened = Opened(part, name)
    match part.kind:
        case "decoder":
            _decoder(opened, findings, max_length)
        case "features":
            _features(opened, findings)
        case "encoder":
            _encoder(opened, findings)
        case "evaluation":
            opened.metrics = _metrics(opened, findings)
        case "index":
            _index(opened, findings)
        case "selection":
            _selection(opened, findings)
        case "proof":
            _proof(opened, findings)
    return opened


def _decoder(opened: Opened, findings: Findings, max_length: int) -> None:
    def look() -> DecoderRecord:
        part = opened.part
        return Decoder.load(part.path, adapter=part.adapter, max_length=max_length, device="cpu").fingerprint

    opened.decoder = findings.check(opened.name, "weights, config and tokenizer can be read", look)


def _features(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    stores = {
        side: findings.check(name, f"{side}: manifest and every shard have their hashes", partial(Store, path / side))
        for side in ("queries", "pool", *([ASKED] if (path / ASKED).exists() else []))
    }
    findings.check(name, "the decoder's tables have their hashes", lambda: check_decoder_tables(path))
    whole = [store for store in stores.values() if store is not None]
    if len(whole) < len(stores):
        return
    made = stores["pool"].provenance
    opened.provenance = made
    for side in stores.keys() - {"pool"}:
        other = stores[side].provenance
        findings.compare(
            name, f"{side} and pool are of one teacher", other.of_features().json(), made.of_features().json()
        )
    if made.teacher is not None and made.teacher.fitted:
        findings.check(name, "what the teacher learnt is what these were made with", lambda: learnt_by(path, made))
    opened.metrics = _metrics(opened, findings)
    if opened.metrics:
        counts = {side: len(stores[side]) for side in ("queries", "pool")}
        there = {side: opened.metrics.get(side) for side in counts}
        findings.compare(name, "metrics.json counts these rows", there, counts)
        teacher = {"teacher": made.json().get("teacher", {})}
        recorded = {"teacher": opened.metrics.get("teacher", {}).get("teacher", {})}
        findings.compare(name, "metrics.json names the teacher that made them", recorded, teacher)
    if made.teacher is not None:
        _config(opened, findings, {"teacher": made.teacher.name, **made.teacher.settings})


def _encoder(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    opened.encoder = findings.check(name, "its record and every file have their hashes", lambda: load(path))
    if opened.encoder is None:
        return
    opened.provenance = opened.encoder.provenance
    findings.check(name, "its weights give the fingerprint that is recorded", lambda: refuse_other_print(path))
    opened.metrics = _metrics(opened, findings)
    if "validation" in opened.metrics:
        measured = dict(opened.encoder.measured)
        findings.compare(
            name, "metrics.json tells the fidelity that is recorded", opened.metrics["validation"], measured
        )
    if (student := opened.provenance.student) is not None:
        _config(opened, findings, {"recipe": student.recipe, "seed": student.seed})


def refuse_other_print(folder: Path) -> None:
    """See that an encoder's weights give its fingerprint.

    Raises:
        StoreCorrupt: they do not.
    """
    encoder = load(folder)
    recorded = vars(encoder).pop("fingerprint")
    if encoder.fingerprint != recorded:
        raise StoreCorrupt(f"{folder}: recorded {recorded[:12]}, its weights give {encoder.fingerprint[:12]}.")


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
        made_by = opened.encoder.fingerprint
        findings.check(
            name,
            "that encoder's weights give its fingerprint",
            lambda: refuse_other_print(encoder_folder(path, made_by)),
        )
    opened.metrics = _metrics(opened, findings)
    if "rows" in opened.metrics:
        there = {"rows": opened.metrics["rows"]}
        findings.compare(name, "metrics.json counts these rows", there, {"rows": len(index)})


def _selection(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    record = findings.check(name, "its record and every file have their hashes", lambda: read_record(path))
    opened.selection = selection = findings.check(name, "every row has a reason", lambda: Selection.load(path))
    if selection is None:
        return
    if record is not None:
        recorded = {"manifest": record["manifest"], "made_by": record["made_by"], "kept": record["kept"]}
        now = {
            "manifest": selection.manifest,
            "made_by": dict(selection.made_by),
            "kept": int(selection.is_kept.sum()),
        }
        findings.compare(name, "selection.json and selection.parquet say the same", recorded, now)
    opened.metrics = _metrics(opened, findings)
    if opened.metrics:
        counts = selection.counts()
        there = {key: opened.metrics.get(key) for key in counts}
        findings.compare(name, "metrics.json counts these rows", there, counts)
    if "rule" in selection.made_by and (given := opened.part.config):
        names = {each.name for each in fields(Rule)} | ({"against"} if "earlier" not in given else set())
        named = {key: _number(value) for key, value in given.items() if key in names and value not in (None, False, [])}
        rule: dict[str, Any] = {key: _number(value) for key, value in selection.made_by["rule"].items()}
        if "earlier" not in given:
            named |= {"by": given.get("by"), "against": "against" in named}
            rule |= {"by": selection.made_by["by"], "against": "against" in selection.made_by}
        findings.compare(name, "config.toml names the rule that is recorded", named, rule)


def _proof(opened: Opened, findings: Findings) -> None:
    path, name = opened.part.path, opened.name
    found = findings.check(name, "its record and every training have their hashes", lambda: read_proof(path))
    if found is None:
        return
    opened.provenance, opened.proof, opened.removed = found
    opened.metrics = _metrics(opened, findings)
    if opened.metrics:
        there, now = opened.metrics["conditions"], summarise(opened.proof)
        findings.compare(name, "metrics.json is what the trainings give", _rounded(there), _rounded(now))
        training = opened.provenance.training or {}
        seeds = {"remove": opened.metrics["removed"], "seeds": len(opened.proof[ALL])}
        _config(opened, findings, {**seeds, **training})
    if (path / "answers.jsonl").exists():
        findings.check(name, "answers.jsonl is what the models answered", lambda: _answers(path, opened.proof or {}))


def _answers(path: Path, proof: Proof) -> None:
    """See that answers.jsonl says of every query and seed what the trainings say.

    Raises:
        StoreCorrupt: it does not.
    """
    rows = [orjson.loads(line) for line in (path / "answers.jsonl").read_bytes().splitlines()]
    told = [(row["seed"], row["answers"], row["losses"]) for row in rows]
    given = [
        (
            seed,
            {condition: of_seeds[seed].answers[place] for condition, of_seeds in proof.items()},
            {condition: float(of_seeds[seed].losses[place]) for condition, of_seeds in proof.items()},
        )
        for place in range(len(proof[ALL][0].answers))
        for seed in range(len(proof[ALL]))
    ]
    if told != given:
        raise StoreCorrupt(f"{path / 'answers.jsonl'}: other answers or losses than in trainings/.")


def _metrics(opened: Opened, findings: Findings) -> Mapping[str, Any]:
    path = opened.part.path / "metrics.json"
    if not path.exists():
        return {}
    found = findings.check(opened.name, "metrics.json can be read", lambda: read_json(path, REMEDY))
    return found or {}


def _config(opened: Opened, findings: Findings, recorded: Mapping[str, Any]) -> None:
    """Compare the settings in config.toml with those that are recorded, where both have them."""
    given = opened.part.config
    shared = [key for key in given if key in recorded and given[key] not in (None, False, [], "auto")]
    if shared:
        there = {key: _number(given[key]) for key in shared}
        now = {key: _number(recorded[key]) for key in shared}
        findings.compare(opened.name, "config.toml names the settings that are recorded", there, now)


def _number(value: Any) -> Any:
    """A setting as it is compared: 5% is 0.05."""
    if isinstance(value, str):
        try:
            return float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
        except ValueError:
            return value
    return list(value) if isinstance(value, tuple) else value


def _rounded(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers as far as another processor gives them again."""
    return {
        name: {key: None if value is None else np.round(value, 6).tolist() for key, value in numbers.items()}
        for name, numbers in conditions.items()
    }
