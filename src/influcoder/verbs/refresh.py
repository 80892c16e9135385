"""Refresh an encoder for a later state of its decoder from few new gradients: the verb `distill` with `--from`.

A share of the rows that the encoder was distilled from gets new gradients; the features of the others are carried along
(`influcoder.maths.carry`). The folder of the new encoder holds these features too, for the next refresh.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.data.columns import data_fingerprint, to_columns
from influcoder.data.examples import Example, Role
from influcoder.errors import ConfigError
from influcoder.maths.arrays import Floats
from influcoder.maths.carry import carried
from influcoder.maths.drift import LEAST_POOL, LEAST_QUERIES
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.store.files import atomic_write, write_json
from influcoder.store.output_folder import Folder
from influcoder.store.writer import StoreWriter
from influcoder.student.decoder_tables import DecoderTables, write_decoder_tables
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of_later
from influcoder.student.features_folder import FeaturesFolder
from influcoder.student.sample import Sample, write_training
from influcoder.teachers.fitted import FITTED
from influcoder.teachers.teacher import Teacher
from influcoder.teachers.write import SHARD_ROWS, code_of
from influcoder.verbs.opening import AnyDecoder, AnyEncoder, AnyFeatures, open_decoder, open_encoder, open_features

SHARE = 0.2
FEATURES = "features"
"""the folder of the features that an encoder was refreshed with, in its own"""
Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""row numbers of queries and of pool rows"""


def refresh(
    earlier: AnyEncoder,
    features: AnyFeatures,
    decoder: AnyDecoder,
    folder: Folder,
    *,
    adapter: str | Path | None = None,
    share: float = SHARE,
    seed: int = 0,
) -> dict[str, Any]:
    """Distill an encoder for a later state of its decoder; most rows keep the features that are carried along.

    Its recorded agreement is measured on half of the rows with new gradients, with an encoder made from the other half.

    Args:
        earlier: the encoder to refresh, of the static tier.
        features: those that it was distilled from, or `features/` in its folder if it was refreshed.
        decoder: the later state: a folder, a hub id or a `Decoder`.
        share: of the rows of both sides whose gradients are computed anew.
        seed: draws them.

    Raises:
        ConfigError: the encoder is of another tier, was made for few questions, or nothing has moved.
        StoreMismatch: the features are not those of the encoder, or the decoder is another model.
    """
    encoder, _ = open_encoder(earlier)
    features = open_features(features)
    if not 0 < share <= 1:
        raise ConfigError(f"share is {share}, expected above 0 and at most 1.")
    _refuse_other(encoder, features)
    loaded = open_decoder(decoder, adapter, encoder.provenance)
    teacher = teacher_of_later(encoder, loaded)
    decoder_before = encoder.provenance.decoder
    if decoder_before is not None and decoder_before.decoder == loaded.fingerprint.decoder:
        raise ConfigError(f"{loaded.name} is the decoder that the encoder was distilled from: nothing has moved.")
    old, rng = features.sample, np.random.default_rng(seed)
    new = _drawn(old, share, rng)
    with folder.claim() as path:
        measured = _measured(teacher, old, new)
        tables = DecoderTables.of(loaded)
        validation_rows, other_half = _halves(new)
        half_sample = _carried(old, other_half, measured, teacher)
        judged = _distilled(tables, teacher, seed, half_sample, validation_rows, measured)
        sample = _carried(old, new, measured, teacher)
        refreshed = _distilled(tables, teacher, seed, sample, validation_rows, measured)
        refreshed.measured, refreshed.trust, refreshed.agreement = judged.measured, judged.trust, judged.agreement
        student = refreshed.provenance.student
        if student is not None:
            gradients = len(new[0]) + len(new[1])
            student = replace(student, refreshed_from=encoder.fingerprint, refresh_gradients=gradients)
            refreshed.provenance = replace(refreshed.provenance, student=student)
        refreshed.teacher_state, refreshed.base_model = encoder.teacher_state, encoder.base_model
        _write_features(path / FEATURES, teacher, sample, new, features)
        write_decoder_tables(tables, path / FEATURES)
        write_training(path, sample)
        refreshed.save(path)
        metrics = {
            "tier": refreshed.tier,
            "validation": refreshed.measured,
            "gradients": {"queries": len(new[0]), "pool": len(new[1]), "of": len(old.queries) + len(old.pool)},
            "splits": {"validation_queries": len(validation_rows[0]), "validation_pool": len(validation_rows[1])},
        }
        write_json(path / "metrics.json", metrics)
    return metrics


def _refuse_other(encoder: InfluenceEncoder, features: FeaturesFolder) -> None:
    if encoder.tier != "static":
        raise ConfigError(
            f"the encoder is of the {encoder.tier} tier; --from refreshes the static one. Compute features of the new "
            "decoder and distill it anew."
        )
    if features.asked is not None:
        raise ConfigError(
            f"{features.path}: features of few questions, which cost no more than a refresh. Compute them anew."
        )
    encoder.provenance.of_features().refuse_other(
        features.provenance.of_features(),
        f"{features.path}: the encoder was distilled from other features",
        "Give those it was distilled from, or `features/` in its folder if it was refreshed.",
    )


def _drawn(sample: Sample, share: float, rng: np.random.Generator) -> Places:
    """The rows whose gradients are computed anew, in random order; at least enough for two halves."""
    counts = [
        min(len(side), max(2 * least, round(share * len(side))))
        for side, least in ((sample.queries, LEAST_QUERIES), (sample.pool, LEAST_POOL))
    ]
    return rng.permutation(len(sample.queries))[: counts[0]], rng.permutation(len(sample.pool))[: counts[1]]


def _halves(places: Places) -> tuple[Places, Places]:
    queries, pool = (np.array_split(rows, 2) for rows in places)
    return (queries[0], pool[0]), (queries[1], pool[1])


def _measured(teacher: Teacher, sample: Sample, places: Places) -> Sample:
    """The sample with new features at some places and the old ones elsewhere."""
    sides: list[Floats] = []
    roles: tuple[Role, Role] = ("query", "pool")
    sides_before = (sample.queries, sample.pool), (sample.query_features, sample.pool_features)
    with progress("features", sum(map(len, places))) as advance:
        for role, examples, features, rows in zip(roles, *sides_before, places, strict=True):
            batch = [examples[row] for row in rows]
            updated = features.copy()
            updated[rows] = teacher.features(batch, role, advance).refuse_rejected(batch).vectors
            sides.append(updated)
    return Sample(sample.queries, sample.pool, sides[0], sides[1])


def _carried(old: Sample, places: Places, measured: Sample, teacher: Teacher) -> Sample:
    """The sample at the later state, as estimated from the rows at some places."""
    unit, count = teacher.settings.similarity == "cosine", len(old.queries)
    before, after = ((sample.query_features, sample.pool_features) for sample in (old, measured))
    if teacher.settings.roles_differ:
        queries, pool = (
            carried(features, rows, new[rows], unit=unit)
            for features, new, rows in zip(before, after, places, strict=True)
        )
    else:
        rows = np.concatenate([places[0], count + places[1]])
        features = carried(np.concatenate(before), rows, np.concatenate(after)[rows], unit=unit)
        queries, pool = features[:count], features[count:]
    return Sample(old.queries, old.pool, queries, pool)


def _distilled(
    tables: DecoderTables,
    teacher: Teacher,
    seed: int,
    sample: Sample,
    validation_rows: Places,
    measured: Sample,
) -> InfluenceEncoder:
    """An encoder of a sample; the validation rows, with their own gradients, choose between models."""
    sides = zip((sample.queries, sample.pool), validation_rows, strict=True)
    queries, pool = (np.setdiff1d(np.arange(len(side)), rows) for side, rows in sides)
    train, validation = sample.rows(queries, pool), measured.rows(*validation_rows)
    return distill_static(
        tables.backbone,
        train,
        validation,
        ClosedFormRecipe(seed=seed),
        expected=tables.expected,
        provenance=Provenance(teacher=teacher.provenance.teacher, decoder=teacher.provenance.decoder),
    )


def _write_features(folder: Path, teacher: Teacher, sample: Sample, measured: Places, earlier: FeaturesFolder) -> None:
    """Write the features of both sides as `influcoder features` does; `measured` are the rows with a new gradient."""
    folder.mkdir()
    sides: Sequence[tuple[str, Role, Sequence[Example], Floats, NDArray[np.int64]]] = (
        ("queries", "query", sample.queries, sample.query_features, measured[0]),
        ("pool", "pool", sample.pool, sample.pool_features, measured[1]),
    )
    for name, role, examples, features, rows in sides:
        lengths = np.maximum(np.linalg.norm(features, axis=1), 1e-30)
        writer = StoreWriter(
            folder / name,
            kind="features",
            code=code_of(teacher, role),
            ids=[example.id for example in examples],
            provenance=replace(teacher.provenance, data=data_fingerprint(examples)),
            shard_rows=SHARD_ROWS,
        )
        of_gradient = np.isin(np.arange(len(examples)), rows)
        for shard in writer.missing():
            span = slice(shard.start, shard.stop)
            columns = {"scale": lengths[span], "rejected": np.zeros(len(lengths[span]), bool)}
            columns |= {"measured": of_gradient[span], **to_columns(examples[span])}
            writer.write(shard, (features / lengths[:, None])[span], columns)
        writer.finish()
    if (earlier.path / FITTED).exists():
        atomic_write(folder / FITTED, (earlier.path / FITTED).read_bytes())
