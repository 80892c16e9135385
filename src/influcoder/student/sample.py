"""A sample of queries and pool examples: how it is split, and recorded so that it is not used as a test."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from influcoder.data.examples import Example, normalised
from influcoder.errors import ConfigError, DataError
from influcoder.maths.arrays import Floats
from influcoder.maths.influence import cross_influence
from influcoder.store.files import atomic_write

VALIDATION_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries and pool examples of one split with their teacher features, (n, width) unit rows."""

    queries: Sequence[Example]
    pool: Sequence[Example]
    query_features: Floats
    pool_features: Floats

    @property
    def influence(self) -> Floats:
        """(n_queries, n_pool)."""
        return np.asarray(cross_influence(self.query_features, self.pool_features), np.float32)

    def rows(self, queries: NDArray[np.int64], pool: NDArray[np.int64]) -> "Sample":
        """The sample of these queries and pool examples only."""
        return Sample(
            [self.queries[row] for row in queries],
            [self.pool[row] for row in pool],
            self.query_features[queries],
            self.pool_features[pool],
        )


def split_sample(sample: Sample, seed: int) -> tuple[Sample, Sample]:
    """(train, validation): a seeded share of both roles is held out for choosing between models."""
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed is {seed}, expected 0 to 2**63 - 1.")
    rng = np.random.default_rng(seed)
    splits = []
    for examples in (sample.queries, sample.pool):
        order = rng.permutation(len(examples))
        size = max(2, round(VALIDATION_SHARE * len(examples)))
        if len(order) < 2 * size:
            raise DataError(
                f"{len(examples)} examples on one side; distilling needs at least {2 * size} to train and validate."
            )
        splits.append((np.sort(order[size:]), np.sort(order[:size])))
    (q_train, q_validation), (p_train, p_validation) = splits
    return sample.rows(q_train, p_train), sample.rows(q_validation, p_validation)


def refuse_overlap(train: Sample, validation: Sample) -> None:
    """Check that two splits share no example and that neither is too small.

    Raises:
        ConfigError: they do, or one side has fewer than two examples.
    """
    for side in ("queries", "pool"):
        training, held_out = getattr(train, side), getattr(validation, side)
        if len(training) < 2 or len(held_out) < 2:
            raise ConfigError(
                f"{side}: {len(training)} to train on, {len(held_out)} to validate on; expected at least 2 each."
            )
        shared = {example.id for example in training} & {example.id for example in held_out}
        if shared:
            raise ConfigError(f"{side}: {len(shared)} examples are in both splits, {sorted(shared)[0]!r} among them.")


def not_in(known: Sequence[Example], examples: Sequence[Example]) -> list[Example]:
    """The examples whose text is not that of a known one, each text once."""
    known_texts = set(map(normalised, known))
    unique: dict[str, Example] = {}
    for example in examples:
        unique.setdefault(normalised(example), example)
    return [example for text, example in unique.items() if text not in known_texts]


def write_training(folder: Path, sample: Sample, unlabelled: Sequence[Example] = ()) -> None:
    """Write `training.parquet`: the ids and text hashes of everything training and model selection saw."""
    examples = [*sample.queries, *sample.pool, *unlabelled]
    sink = pa.BufferOutputStream()
    columns = {"id": [example.id for example in examples], "text": list(map(normalised, examples))}
    pq.write_table(pa.table(columns), sink)
    atomic_write(folder / "training.parquet", sink.getvalue().to_pybytes())


def seen_by(encoder_folder: Path) -> set[str]:
    """The `normalised` texts that training or model selection of an encoder saw, as `write_training` wrote them.

    Raises:
        DataError: the encoder has no record of them.
    """
    path = encoder_folder / "training.parquet"
    if not path.exists():
        raise DataError(f"{path}: missing, so it is unknown what the encoder was trained on. Distill it again.")
    return set(pq.read_table(path)["text"].to_pylist())


def refuse_trained_on(encoder_folder: Path, test: Sample) -> None:
    """Check that a test shares no text with what an encoder saw.

    Raises:
        DataError: training or model selection saw a text of the test, or the encoder has no record of them.
    """
    refuse_seen(seen_by(encoder_folder), test)


def refuse_seen(seen: Collection[str], test: Sample) -> None:
    """Check that a test shares no text with the `normalised` texts of some training.

    Raises:
        DataError: the test holds one of them.
    """
    shared = [example.id for example in (*test.queries, *test.pool) if normalised(example) in seen]
    if shared:
        raise DataError(
            f"{len(shared)} test examples were seen in training or model selection, {shared[0]!r} among them. "
            "Test on other data."
        )
