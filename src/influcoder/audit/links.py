"""Was a part of a chain made from the part before it? By hashes that it recorded, and by doing again what is quick."""

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


def refuse_others(one: Opened, sources: Sequence[Opened]) -> None:
    """See that a part was made from one of some others.

    Raises:
        StoreMismatch: from none; the message says what differs.
    """
    refusals = []
    for source in sources:
        try:
            return _MADE_FROM[one.part.kind](one, source)
        except InflucoderError as error:
            refusals.append(str(error))
    raise StoreMismatch(" ".join(refusals))


def _of_decoder(features: Opened, decoder: Opened) -> None:
    """Weights, tokenizer, template and code are those that are recorded."""
    recorded = _known(features.provenance, features).decoder
    found = _known(decoder.decoder, decoder)
    if recorded is None:
        raise StoreMismatch(f"{features.part.path}: records no decoder.")
    names = ("decoder", "tokenizer", "template_date", "remote_code")
    there, now = ({name: getattr(record, name) for name in names} for record in (recorded, found))
    refuse_difference(f"{decoder.part.path}: another decoder", there, now, "Give the one that made the features.")


def _of_features(encoder: Opened, features: Opened) -> None:
    """Teacher and decoder are the same in every setting, and the encoder has seen each of these rows."""
    mine, theirs = (_known(one.provenance, one).of_features() for one in (encoder, features))
    theirs.refuse_other(mine, f"{encoder.part.path}: distilled from other features", "Distill it again.")
    training = encoder.part.path / "training.parquet"
    if training.exists():
        seen = set(pq.read_table(training)["text"].to_pylist())
        unseen = [one.id for one in _rows_of(features) if normalised(one) not in seen]
        if unseen:
            raise StoreMismatch(
                f"{training}: {len(unseen)} rows of these features are not in it, {unseen[0]!r} is one."
            )


def _rows_of(features: Opened) -> list[Example]:
    stores = [Store(features.part.path / side, lazily=True) for side in ("queries", "pool")]
    records = [record for store in stores for record in store.columns.to_pylist()]
    return [from_columns(record) for record in records if not record.get("rejected")]


def _of_encoder(index: Opened, encoder: Opened) -> None:
    """The encoder's fingerprint is the one in the index's manifest."""
    there = Provenance(encoder=_known(index.index, index).store.provenance.encoder)
    now = Provenance(encoder=_known(encoder.encoder, encoder).fingerprint)
    there.refuse_other(now, f"{index.part.path}: embedded by another encoder", "Index the pool again.")


def _evaluated(evaluation: Opened, encoder: Opened) -> None:
    """It names the encoder, which gives the same fidelity again where the features that it was tested on are there."""
    found, path = _known(encoder.encoder, encoder), evaluation.part.path
    there, now = {"encoder": evaluation.metrics.get("encoder")}, {"encoder": found.fingerprint}
    refuse_difference(f"{path}: of another encoder", there, now, "Evaluate this one.")
    features = Path(evaluation.part.config["features"])
    if features.is_dir() and found.tier not in DECODER_TIERS:
        test = FeaturesFolder(features).sample
        again = spearman_rows(test.influence, EncoderScorer("influcoder", found).score(test.queries, test.pool)).mean()
        told = evaluation.metrics["methods"]["influcoder"]["per_query_spearman"]
        there, now = {"per_query_spearman": round(told, 4)}, {"per_query_spearman": round(float(again), 4)}
        refuse_difference(f"{path / 'metrics.json'}: not what the encoder gives", there, now, "Evaluate it again.")


def _selected_from(selection: Opened, index: Opened) -> None:
    """The index has the rows that were selected from, and the rule, applied again, keeps the same ones."""
    made, opened = _known(selection.selection, selection), _known(index.index, index)
    made.open_index(opened)
    there = {"ids": data_of(made.ids), "encoder": made.made_by.get("encoder", opened.store.provenance.encoder)}
    now = {"ids": data_of(opened.ids), "encoder": opened.store.provenance.encoder}
    refuse_difference(f"{selection.part.path}: selected from other rows", there, now, "Select again.")
    if "rule" in made.made_by:
        rule = Rule.read(made.made_by["rule"])
        again = replace(made, index=index.part.path).rethreshold(**{name: getattr(rule, name) for name in rule.json()})
        differing = np.flatnonzero(again.is_kept != made.is_kept)
        if len(differing):
            raise StoreMismatch(
                f"{selection.part.path}: its rule, applied again to its scores, decides otherwise on {len(differing)} "
                f"rows, {made.ids[int(differing[0])]!r} is one."
            )


def data_of(ids: Sequence[str]) -> str:
    """The fingerprint of ids in their order."""
    return data_fingerprint([Example(name, "", "") for name in ids])


def _proved_on(proof: Opened, index: Opened) -> None:
    """The models were trained on the rows of the index, and what was taken out is what is recorded."""
    opened, trained = _known(index.index, index), _known(proof.provenance, proof)
    pool = list(opened.examples())
    there, now = {"data": trained.data}, {"data": data_fingerprint(pool)}
    refuse_difference(f"{proof.part.path}: trained on other rows", there, now, "Prove it on this index.")
    folder = proof.part.path / "removed"
    if folder.is_dir():
        places = {one.id: place for place, one in enumerate(pool)}
        for name, ids in proof.removed.items():
            if ids:
                _refuse_other_rows(folder / f"{name}.jsonl", opened, [places[one] for one in ids])


def _refuse_other_rows(path: Any, index: Index, places: Sequence[int]) -> None:
    wanted = np.zeros(len(index), bool)
    wanted[list(places)] = True
    rows = sorted(to_json(row) for part in original_rows(index, wanted) for row in part)
    held = sorted(to_json(orjson.loads(line)) for line in path.read_bytes().splitlines()) if path.is_file() else []
    if rows != held:
        raise StoreMismatch(f"{path}: missing, or not the rows that the model was trained without.")


def _known(value: Any, one: Opened) -> Any:
    if value is None:
        raise StoreError(f"{one.part.path}: cannot be read, so nothing can be compared with it.")
    return value


_MADE_FROM: Mapping[Kind, Callable[[Opened, Opened], None]] = {
    "features": _of_decoder,
    "encoder": _of_features,
    "evaluation": _evaluated,
    "index": _of_encoder,
    "selection": _selected_from,
    "proof": _proved_on,
}
