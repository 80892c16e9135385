"""Was a part of a chain made from the part before it? By recorded hashes, and by repeating what is quick to compute."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq

from influcoder.attribution.rule import Rule
from influcoder.audit.checks import Opened
from influcoder.audit.parts import Kind
from influcoder.data.columns import data_fingerprint, from_columns, to_json
from influcoder.data.examples import Example, normalised
from influcoder.errors import InflucoderError, StoreError, StoreMismatch
from influcoder.evaluation.scorers import EncoderScorer
from influcoder.indexes.index import Index
from influcoder.indexes.original_rows import original_rows
from influcoder.maths.metrics import spearman_rows
from influcoder.provenance import Provenance, refuse_difference
from influcoder.store.store import Store
from influcoder.student.encoder import DECODER_TIERS
from influcoder.student.features_folder import FeaturesFolder


def refuse_other_sources(opened: Opened, sources: Sequence[Opened]) -> None:
    """Check that a part was made from one of these sources.

    Raises:
        StoreMismatch: from none of them; the message says what differs.
    """
    refusals = []
    for source in sources:
        try:
            return _MADE_FROM[opened.part.kind](opened, source)
        except InflucoderError as error:
            refusals.append(str(error))
    raise StoreMismatch(" ".join(refusals))


def _of_decoder(features: Opened, decoder: Opened) -> None:
    """Weights, tokenizer, template and code are those that are recorded."""
    expected = _known(features.provenance, features).decoder
    loaded = _known(decoder.decoder, decoder)
    if expected is None:
        raise StoreMismatch(f"{features.part.path}: records no decoder.")
    names = ("decoder", "tokenizer", "template_date", "remote_code")
    recorded, actual = ({name: getattr(record, name) for name in names} for record in (expected, loaded))
    refuse_difference(f"{decoder.part.path}: another decoder", recorded, actual, "Give the one that made the features.")


def _of_features(encoder: Opened, features: Opened) -> None:
    """Teacher and decoder are the same in every setting, and the encoder has seen each of these rows."""
    recorded, actual = (_known(opened.provenance, opened).of_features() for opened in (encoder, features))
    actual.refuse_other(recorded, f"{encoder.part.path}: distilled from other features", "Distill it again.")
    training = encoder.part.path / "training.parquet"
    if training.exists():
        seen = set(pq.read_table(training)["text"].to_pylist())
        unseen = [example.id for example in _examples_of(features) if normalised(example) not in seen]
        if unseen:
            raise StoreMismatch(
                f"{training}: {len(unseen)} rows of these features are not in it, {unseen[0]!r} is one."
            )


def _examples_of(features: Opened) -> list[Example]:
    stores = [Store(features.part.path / side, lazily=True) for side in ("queries", "pool")]
    records = [record for store in stores for record in store.columns.to_pylist()]
    return [from_columns(record) for record in records if not record.get("rejected")]


def _of_encoder(index: Opened, encoder: Opened) -> None:
    """The encoder's fingerprint is the one in the index's manifest."""
    recorded = Provenance(encoder=_known(index.index, index).store.provenance.encoder)
    actual = Provenance(encoder=_known(encoder.encoder, encoder).fingerprint)
    recorded.refuse_other(actual, f"{index.part.path}: embedded by another encoder", "Index the pool again.")


def _evaluated(evaluation: Opened, encoder: Opened) -> None:
    """It names the encoder, which gives the same fidelity again where the features that it was tested on are there.

    Earlier versions named none: of their evaluations the fidelity decides.
    """
    known, path, features = (
        _known(encoder.encoder, encoder),
        evaluation.part.path,
        Path(evaluation.part.config["features"]),
    )
    repeatable = features.is_dir() and known.tier not in DECODER_TIERS
    if "encoder" in evaluation.metrics:
        recorded, actual = {"encoder": evaluation.metrics["encoder"]}, {"encoder": known.fingerprint}
        refuse_difference(f"{path}: of another encoder", recorded, actual, "Evaluate this one.")
    elif not repeatable:
        raise StoreMismatch(f"{path}: an earlier version wrote it, without the encoder that it is of. Evaluate again.")
    if repeatable:
        test = FeaturesFolder(features).sample
        again = spearman_rows(test.influence, EncoderScorer("influcoder", known).score(test.queries, test.pool)).mean()
        before = evaluation.metrics["methods"]["influcoder"]["per_query_spearman"]
        recorded, actual = {"per_query_spearman": round(before, 4)}, {"per_query_spearman": round(float(again), 4)}
        refuse_difference(
            f"{path / 'metrics.json'}: not what the encoder gives", recorded, actual, "Evaluate it again."
        )


def _selected_from(selection: Opened, index: Opened) -> None:
    """The index has the rows that were selected from, and the rule, applied again, keeps the same rows."""
    selected, opened = _known(selection.selection, selection), _known(index.index, index)
    selected.open_index(opened)
    encoder = opened.store.provenance.encoder
    recorded = {"ids": _hash_of_ids(selected.ids), "encoder": selected.made_by.get("encoder", encoder)}
    actual = {"ids": _hash_of_ids(opened.ids), "encoder": encoder}
    refuse_difference(f"{selection.part.path}: selected from other rows", recorded, actual, "Select again.")
    if "rule" in selected.made_by:
        rule = Rule.read(selected.made_by["rule"])
        limits = {name: getattr(rule, name) for name in rule.json()}
        repeated = replace(selected, index=index.part.path).rethreshold(**limits)
        differing = np.flatnonzero(repeated.is_kept != selected.is_kept)
        if len(differing):
            raise StoreMismatch(
                f"{selection.part.path}: its rule, applied again to its scores, decides otherwise on {len(differing)} "
                f"rows, {selected.ids[int(differing[0])]!r} is one."
            )


def _hash_of_ids(ids: Sequence[str]) -> str:
    """The fingerprint of ids in their order."""
    return data_fingerprint([Example(name, "", "") for name in ids])


def _proved_on(proof: Opened, index: Opened) -> None:
    """The models were trained on the rows of the index, and the removed rows are those that are recorded."""
    opened, trained = _known(index.index, index), _known(proof.provenance, proof)
    pool = list(opened.examples())
    recorded, actual = {"data": trained.data}, {"data": data_fingerprint(pool)}
    refuse_difference(f"{proof.part.path}: trained on other rows", recorded, actual, "Prove it on this index.")
    folder = proof.part.path / "removed"
    if folder.is_dir():
        row_of = {example.id: row for row, example in enumerate(pool)}
        for name, ids in proof.removed.items():
            if ids:
                _refuse_other_rows(folder / f"{name}.jsonl", opened, [row_of[removed] for removed in ids])


def _refuse_other_rows(path: Any, index: Index, rows: Sequence[int]) -> None:
    removed = np.zeros(len(index), bool)
    removed[list(rows)] = True
    expected = sorted(to_json(row) for part in original_rows(index, removed) for row in part)
    written = sorted(to_json(orjson.loads(line)) for line in path.read_bytes().splitlines()) if path.is_file() else []
    if written != expected:
        raise StoreMismatch(f"{path}: missing, or not the rows that the model was trained without.")


def _known(value: Any, opened: Opened) -> Any:
    if value is None:
        raise StoreError(f"{opened.part.path}: cannot be read, so nothing can be compared with it.")
    return value


_MADE_FROM: Mapping[Kind, Callable[[Opened, Opened], None]] = {
    "features": _of_decoder,
    "encoder": _of_features,
    "evaluation": _evaluated,
    "index": _of_encoder,
    "selection": _selected_from,
    "proof": _proved_on,
}
