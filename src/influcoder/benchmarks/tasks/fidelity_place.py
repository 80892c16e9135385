"""A place of the fidelity benchmark: one corpus with one seed, its features and encoders kept in a folder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.corpora import Split
from influcoder.data.examples import Example
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.store.store import Store
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder, read_features
from influcoder.student.sample import Sample
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.teacher import Teacher
from influcoder.teachers.write import write_features


def exact_teacher(decoder: Decoder, settings: TeacherSettings, split: Split) -> Teacher:
    """A teacher whose influences are a split's truth; what it has to learn first it learns on the training side."""
    teacher = make_teacher(decoder, settings)
    queries, pool = split.train
    teacher.fit(pool, queries)
    return teacher


@dataclass(frozen=True)
class Place:
    """One corpus, one seed, one teacher.

    Attributes:
        name: of the corpus, shown in tables.
        seed: of the split, the teacher and every student.
        folder: where what is made is kept, so that a killed run goes on.
    """

    name: str
    seed: int
    folder: Path
    split: Split
    teacher: Teacher

    @cached_property
    def train(self) -> Sample:
        """What may be learnt from, validation included."""
        return self._sample("train")

    @cached_property
    def test(self) -> Sample:
        """What nothing is chosen by."""
        return self._sample("test")

    def enlarged(self, times: float) -> Sample:
        """The training examples with more pool rows: `times` as many, or all there are."""
        count = round((times - 1) * len(self.train.pool))
        whole, (more, features) = self.train, self._more
        return replace(
            whole,
            pool=[*whole.pool, *more[:count]],
            pool_features=np.concatenate([whole.pool_features, features[:count]]),
        )

    @cached_property
    def _more(self) -> tuple[list[Example], Floats]:
        folder = self.folder / "features" / "more"
        write_features(self.teacher, self.split.more[1], "pool", folder)
        return read_features(Store(folder))

    def encoder(self, name: str, make: Callable[[], InfluenceEncoder], **settings: Any) -> InfluenceEncoder:
        """The encoder of that name, from disk where an earlier run made it of the same features and settings."""
        place = self.folder / "encoders" / name
        texts = {key: str(value) for key, value in settings.items()}
        provenance = replace(self.teacher.provenance, training=texts)
        if not (place / "influcoder.json").exists():
            made = make()
            made.provenance = replace(provenance, student=made.provenance.student)
            made.teacher_state = {key: tensor.numpy() for key, tensor in self.teacher.state().items()}
            made.save(place)
        found = InfluenceEncoder.load(place, decoder=self.teacher.decoder)
        remedy = "Use the same settings or give --overwrite."
        replace(found.provenance, student=None).refuse_other(
            provenance, f"{place}: made by an earlier run of other settings", remedy
        )
        return found

    def _sample(self, part: str) -> Sample:
        queries, pool = getattr(self.split, part)
        write_features(self.teacher, queries, "query", self.folder / "features" / part / "queries")
        write_features(self.teacher, pool, "pool", self.folder / "features" / part / "pool")
        return FeaturesFolder(self.folder / "features" / part).sample
