"""What the fidelity benchmark makes methods from: a corpus and a seed, with features and encoders on disk."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from influcoder.benchmarks.corpora.problem import Split
from influcoder.benchmarks.methods.bench import Bench
from influcoder.data.examples import Example
from influcoder.maths.arrays import Floats
from influcoder.store.store import Store
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import FeaturesFolder, read_features
from influcoder.student.sample import Sample, split_sample
from influcoder.teachers.write import write_features


@dataclass
class FidelityBench(Bench):
    """A bench whose only teacher is the truth; a seeded 15 % of the training split chooses between models.

    Attributes:
        corpus: its name, shown in tables.
        share: of the training examples that students learn from; above 1, so many times their pool.
    """

    corpus: str = ""
    share: float = 1.0

    @property
    def fitted_on(self) -> Split:
        return self.problem.train

    @property
    def test(self) -> Sample:
        """The test sample; nothing is trained on it or chosen by it."""
        split = Split(self.problem.queries, self.problem.pool)
        return self.parts.get("test", lambda: self._cached_sample("test", split))

    def all_samples(self, teacher: str | None = None) -> Sample:
        """What students may learn from, validation included; the only teacher is the truth."""
        sample = self.parts.get("train", lambda: self._cached_sample("train", self.problem.train))
        return self._enlarged(sample) if self.share > 1 else self._reduced(sample)

    def samples(self, teacher: str | None = None) -> tuple[Sample, Sample]:
        return split_sample(self.all_samples(), self.seed)

    def student(self, tier: str) -> InfluenceEncoder:
        name = tier if self.share == 1 else f"{tier}-{self.share:g}"
        return self._cached_encoder(name, lambda: self._student(tier))

    def paper_student(self) -> InfluenceEncoder:
        return self._cached_encoder("paper-recipe", super().paper_student)

    def _reduced(self, sample: Sample) -> Sample:
        """A drawn share of both sides."""
        if self.share == 1:
            return sample
        rng = np.random.default_rng(self.seed)
        sizes = len(sample.queries), len(sample.pool)
        drawn = [np.sort(rng.permutation(size)[: round(self.share * size)]) for size in sizes]
        return sample.rows(*drawn)

    def _enlarged(self, sample: Sample) -> Sample:
        """The sample with `share` times its pool rows, or all there are."""
        rows, features = self.parts.get("more", self._more)
        count = round((self.share - 1) * len(sample.pool))
        pool_features = np.concatenate([sample.pool_features, features[:count]])
        return replace(sample, pool=[*sample.pool, *rows[:count]], pool_features=pool_features)

    def _more(self) -> tuple[list[Example], Floats]:
        folder = self.folder / "features" / "more"
        write_features(self.teacher(), self.problem.unlabelled.pool, "pool", folder)
        return read_features(Store(folder))

    def _cached_sample(self, name: str, split: Split) -> Sample:
        folder = self.folder / "features" / name
        write_features(self.teacher(), split.queries, "query", folder / "queries")
        write_features(self.teacher(), split.pool, "pool", folder / "pool")
        return FeaturesFolder(folder).sample

    def _cached_encoder(self, name: str, make: Callable[[], InfluenceEncoder]) -> InfluenceEncoder:
        """The named encoder, from disk where an earlier run made it."""

        def get() -> InfluenceEncoder:
            folder, teacher = self.folder / "encoders" / name, self.teacher()
            if not (folder / "influcoder.json").exists():
                encoder = make()
                encoder.provenance = replace(teacher.provenance, student=encoder.provenance.student)
                encoder.teacher_state = {key: tensor.numpy() for key, tensor in teacher.state().items()}
                encoder.save(folder)
            return InfluenceEncoder.load(folder, decoder=self.model)

        return self.parts.get(f"encoder {name}", get)
