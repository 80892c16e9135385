"""The verb `drift`: does an encoder still rank as its teacher does, at a later state of the decoder?"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.data.examples import Example, normalised
from influcoder.errors import ConfigError, DataError
from influcoder.maths.arrays import Floats
from influcoder.maths.drift import LEAST_POOL, LEAST_QUERIES, Agreement, DriftTest, probe_sizes
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.provenance import Provenance
from influcoder.store.files import read_sealed, write_sealed
from influcoder.store.output_folder import Folder
from influcoder.student.encoder import DECODER_TIERS, InfluenceEncoder
from influcoder.student.encoder_folder import teacher_of_later
from influcoder.student.sample import not_in, seen_by
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.opening import (
    AnyDecoder,
    AnyEncoder,
    AnyIndex,
    Rows,
    open_any_index,
    open_decoder,
    open_encoder,
    read_rows,
)

RECORD, FORMAT = "drift.json", 1
STALE = 3
"""the exit status of the command line for an encoder that is stale"""


def drift(
    encoder: AnyEncoder,
    decoder: AnyDecoder,
    queries: Rows,
    pool: Rows,
    *,
    adapter: str | Path | None = None,
    index: AnyIndex | None = None,
    tolerance: float = 0.25,
    budget: int = 240,
    seed: int = 0,
) -> dict[str, Any]:
    """Test with few gradients whether an encoder still ranks as its teacher does on a decoder that was trained further.

    The teacher's features of a probe, drawn from rows that the encoder has not learnt from, are held against the
    encoder's scores. The probe grows until the agreement is surely as before, or surely less, or the budget is spent
    (`influcoder.maths.drift`): the verdict is "stale" with probability 5 % at most where nothing was lost, and "fine"
    with 5 % at most where the tolerance or more was lost.

    Args:
        encoder: the encoder in use; load one of the short or forward tier with the decoder that it reads with.
        decoder: the later state of the decoder it was distilled from: a folder, a hub id or a `Decoder`.
        queries, pool: rows like those it was distilled from, which it has not seen.
        adapter: a PEFT LoRA adapter of the decoder.
        index: made by this encoder; it keeps the verdict, which `search` then shows.
        tolerance: the share of the agreement at distillation time that may be lost.
        budget: gradients at most.
        seed: draws the probe.

    Returns:
        verdict: "stale", "fine", or "undecided" where the budget was too small.
        agreement_then, agreement_now: mean over queries of Spearman's ρ, its standard error, queries and pool rows.
        interval_95: of the agreement now, over all looks together.
        gradients, looks, tolerance, budget; checked (UTC date); decoder, decoder_hash; encoder (its fingerprint).

    Raises:
        ConfigError: the encoder has no teacher that can be computed, or does not know its agreement.
        StoreMismatch: the decoder is another model, or the index is of another encoder.
        DataError: too few rows that the encoder has not seen.

    >>> import influcoder
    >>> check = influcoder.drift("encoder", "decoder", "test-queries.jsonl", "test-pool.jsonl")
    >>> check["verdict"] in ("fine", "undecided", "stale"), check["gradients"] <= 240
    (True, True)
    """
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance is {tolerance}, expected a share above 0 and below 1.")
    if budget < LEAST_QUERIES + LEAST_POOL:
        raise ConfigError(f"budget is {budget} gradients, expected at least {LEAST_QUERIES + LEAST_POOL}.")
    encoder, _ = open_encoder(encoder)
    earlier = _agreement_then(encoder)
    index_to_mark = None if index is None else open_any_index(index)[0]
    if index_to_mark is not None:
        maker, checked = (Provenance(encoder=each.fingerprint) for each in (index_to_mark.encoder, encoder))
        maker.refuse_other(checked, f"{index_to_mark.folder}: made by another encoder", "Give the one that made it.")
    loaded = open_decoder(decoder, adapter, encoder.provenance)
    probe = _Probe(encoder, teacher_of_later(encoder, loaded), *_unseen(encoder, queries, pool, loaded, seed))
    sizes = probe_sizes(len(probe.queries), len(probe.pool), budget)
    test = DriftTest(earlier, len(sizes), tolerance)
    verdict, agreement, looks = None, earlier, 0
    with progress("probing", sum(sizes[-1])) as advance:
        for size in sizes:
            looks, before = looks + 1, probe.gradients
            agreement = probe.agreement(*size)
            advance(probe.gradients - before)
            if verdict := test.judge(agreement):
                break
    record = {
        "verdict": verdict or "undecided",
        "agreement_then": asdict(earlier),
        "agreement_now": asdict(agreement),
        "interval_95": list(test.interval(agreement)),
        "gradients": probe.gradients,
        "looks": looks,
        "tolerance": tolerance,
        "budget": budget,
        "checked": datetime.now(UTC).date().isoformat(),
        "decoder": loaded.name,
        "decoder_hash": loaded.fingerprint.decoder,
        "encoder": encoder.fingerprint,
    }
    if index_to_mark is not None:
        with Folder(index_to_mark.folder, resume=True).claim() as path:
            write_sealed(path / RECORD, {"format": FORMAT, **record})
    return record


def last_check(folder: Path, encoder: str) -> dict[str, Any] | None:
    """What the last `drift` said of an index's encoder; None where there was none, or it was of another encoder.

    Args:
        encoder: the fingerprint of the encoder that the index has now.
    """
    if not (folder / RECORD).exists():
        return None
    record = read_sealed(folder / RECORD, FORMAT)
    if record["encoder"] != encoder:
        return None
    return {name: value for name, value in record.items() if name not in ("format", "sha256")}


class _Probe:
    """Queries and pool rows, with the teacher's features of as many as were needed so far."""

    def __init__(
        self, encoder: InfluenceEncoder, teacher: Teacher, queries: Sequence[Example], pool: Sequence[Example]
    ) -> None:
        self.queries, self.pool = queries, pool
        self._teacher = teacher
        self._vectors = encoder.encode_query(queries), encoder.encode_pool(pool)
        self._features: list[Floats] = [np.empty((0, teacher.dim), np.float32)] * 2

    @property
    def gradients(self) -> int:
        """How many were computed."""
        return sum(map(len, self._features))

    def agreement(self, queries: int, pool: int) -> Agreement:
        """The agreement on the first so many of each; missing features are computed."""
        for side, (role, examples, count) in enumerate((("query", self.queries, queries), ("pool", self.pool, pool))):
            new = examples[len(self._features[side]) : count]
            if new:
                features = self._teacher.features(new, role).refuse_rejected(new).vectors  # type: ignore[arg-type]
                self._features[side] = np.concatenate([self._features[side], features])
        truth = self._features[0] @ self._features[1].T
        return Agreement.of(truth, self._vectors[0][:queries] @ self._vectors[1][:pool].T)


def _agreement_then(encoder: InfluenceEncoder) -> Agreement:
    if encoder.tier in DECODER_TIERS and encoder.decoder is None:
        raise ConfigError(
            f"an encoder of the {encoder.tier} tier reads texts with its own decoder, which may not be the one that is "
            "probed. Call influcoder.drift from Python, with InfluenceEncoder.load(folder, decoder=ITS_OWN)."
        )
    if encoder.agreement is None:
        raise ConfigError(
            f"{encoder.folder}: it is not recorded how surely this encoder agreed with its teacher: it was distilled "
            f"by an earlier version, or on fewer than {LEAST_QUERIES} queries or {LEAST_POOL} pool rows of validation. "
            "Distill it again from its features."
        )
    return encoder.agreement


def _unseen(
    encoder: InfluenceEncoder, queries: Rows, pool: Rows, decoder: Decoder, seed: int
) -> tuple[list[Example], list[Example]]:
    """Rows of both sides that the encoder has not learnt from, in random order; no text stands on both sides."""
    rng, trained_on = np.random.default_rng(seed), seen_by(encoder.folder or Path())

    def fresh(side: str, source: Rows, excluded: Sequence[Example], least: int) -> list[Example]:
        rows = not_in(excluded, read_rows(source, side, decoder))
        unseen = [row for row in rows if normalised(row) not in trained_on]
        if len(unseen) < least:
            raise DataError(
                f"{side}: {len(unseen)} of {len(rows)} rows were not seen in training or model selection; a probe "
                f"needs at least {least}. Give rows of the same kind that the encoder was not distilled from."
            )
        return [unseen[place] for place in rng.permutation(len(unseen))]

    probe_queries, rows = fresh("queries", queries, [], LEAST_QUERIES), fresh("pool", pool, [], LEAST_POOL)
    if len(not_in(probe_queries, rows)) < len(rows):  # the same rows are given as both
        probe_queries = probe_queries[: max(LEAST_QUERIES, len(probe_queries) // 3)]
    return probe_queries, fresh("pool", pool, probe_queries, LEAST_POOL)
