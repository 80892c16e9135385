"""A features folder: what `influcoder features` or `influcoder import` wrote, opened and hashed once.

queries/, pool/        stores of features, a role each
asked/                 pool rows in the role of queries, where there are few queries and the roles differ
teacher.safetensors    what the teacher learnt from a sample, where it learns
backbone/, expected.safetensors   the decoder's tables that a static student reads
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from influcoder.data.columns import from_columns
from influcoder.data.examples import Example
from influcoder.errors import StoreMismatch
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.provenance import IMPORTED, Provenance
from influcoder.store.files import read_json
from influcoder.store.store import Store
from influcoder.student.backbone import sentence_transformer
from influcoder.student.decoder_tables import check_decoder_tables, read_expected
from influcoder.student.few_questions import ASKED, FEW, split_with_pool_rows
from influcoder.student.sample import Sample, split_sample
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.fitted import learnt_by
from influcoder.teachers.make import teacher_again
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.teacher import CODES, Teacher


class FeaturesFolder:
    """Open what `influcoder.features` wrote: the teacher's influence on a sample of queries and pool examples.

    Raises:
        StoreError, StoreIncomplete, StoreCorrupt: a store or table is missing, unfinished or damaged.
        StoreMismatch: its stores hold no features, or those of different teachers.

    >>> FeaturesFolder("features").sample.influence.shape
    (30, 60)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.queries, self.pool = Store(self.path / "queries"), Store(self.path / "pool")
        for store in (self.queries, self.pool):
            if store.manifest["kind"] != "features":
                raise StoreMismatch(f"{store.folder}: a store of {store.manifest['kind']}, expected features.")
        self.queries.provenance.of_features().refuse_other(
            self.pool.provenance.of_features(),
            f"{path}: queries and pool are of different teachers",
            "Make both with one run of `influcoder features`.",
        )
        check_decoder_tables(self.path)

    @property
    def provenance(self) -> Provenance:
        """The teacher and the decoder that made it."""
        record = self.pool.provenance
        return Provenance(teacher=record.teacher, decoder=record.decoder)

    @cached_property
    def base_model(self) -> str | None:
        """The hub id of the decoder that made it, if it came from the hub."""
        records = [read_json(path, "Make the features again.") for path in self.path.glob("metrics*.json")]
        return next((record["base_model"] for record in records if "base_model" in record), None)

    @cached_property
    def sample(self) -> Sample:
        """Examples and features of both sides, without the rows whose gradient was not finite."""
        queries, query_features = read_features(self.queries)
        pool, pool_features = read_features(self.pool)
        return Sample(queries, pool, query_features, pool_features)

    @cached_property
    def asked(self) -> tuple[Sequence[Example], Floats] | None:
        """Pool rows and their features in the role of queries; None where these are not known, or not needed."""
        teacher = self.provenance.teacher
        if len(self.sample.queries) >= FEW or teacher is None or teacher.name == IMPORTED:
            return None
        if TeacherSettings.read(teacher).roles_differ:
            return read_features(Store(self.path / ASKED)) if (self.path / ASKED).exists() else None
        return self.sample.pool, self.sample.pool_features

    def split(self, seed: int) -> tuple[Sample, Sample]:
        """(train, validation), as `split_sample`; where there are few queries, with pool rows among them."""
        if self.asked is None:
            return split_sample(self.sample, seed)
        return split_with_pool_rows(self.sample, self.asked, seed)

    @property
    def has_tables(self) -> bool:
        """Whether the decoder's tables are there, which a static student reads."""
        return (self.path / "backbone").exists()

    @cached_property
    def backbone(self) -> Any:
        """The static Sentence Transformers model of the decoder's table."""
        return sentence_transformer(self.path / "backbone")

    @cached_property
    def expected(self) -> Mapping[str, Floats]:
        """What the decoder expects after each token (`expected_embeddings`); empty in folders without it."""
        return read_expected(self.path)

    @cached_property
    def teacher_state(self) -> Mapping[str, Tensor]:
        """What the teacher learnt from a sample; empty where it learns nothing.

        Raises:
            StoreCorrupt: it is missing, or not what these features were made with.
        """
        return learnt_by(self.path, self.provenance)

    def teacher(self, decoder: Decoder, checkpoints: Sequence[Checkpoint] = ()) -> Teacher:
        """The teacher that made these features, on the decoder given.

        Raises:
            StoreMismatch: the decoder or the checkpoints are not those it was made with.
            ConfigError: the features were imported, or are of checkpoints and none are given.
        """
        what = f"the features in {self.path} were computed"
        return teacher_again(self.provenance, self.teacher_state, decoder, checkpoints=checkpoints, what=what)


def read_features(store: Store) -> tuple[list[Example], Floats]:
    """The examples of a features store and their vectors, (n, dim), without rows whose gradient was not finite."""
    vectors, names = store.vectors(CODES), store.columns.column_names
    if "scale" in names:
        vectors *= store.columns["scale"].to_numpy()[:, None]
    examples = [from_columns(record) for record in store.columns.to_pylist()]
    if "rejected" not in names:
        return examples, vectors
    finite = np.flatnonzero(~store.columns["rejected"].to_numpy())
    return [examples[row] for row in finite], vectors[finite]
