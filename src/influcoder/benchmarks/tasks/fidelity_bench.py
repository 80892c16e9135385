"""What the fidelity benchmark makes methods from: a corpus with a seed, its features and encoders kept on disk."""

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
        """What nothing is trained on or chosen by."""
        return self.parts.get("test", lambda: self._kept_sample("test", Split(self.problem.queries, self.problem.pool)))

    def all_samples(self, teacher: str | None = None) -> Sample:
        """What may be learnt from, validation included; there is no other teacher than the truth's."""
        whole = self.parts.get("train", lambda: self._kept_sample("train", self.problem.train))
        return self._enlarged(whole) if self.share > 1 else self._reduced(whole)

    def samples(self, teacher: str | None = None) -> tuple[Sample, Sample]:
        return split_sample(self.all_samples(), self.seed)

    def student(self, tier: str) -> InfluenceEncoder:
        name = tier if self.share == 1 else f"{tier}-{self.share:g}"
        return self._kept_encoder(name, lambda: self._student(tier))

    def paper_student(self) -> InfluenceEncoder:
        return self._kept_encoder("paper-recipe", super().paper_student)

    def _reduced(self, whole: Sample) -> Sample:
        """A drawn share of both sides."""
        if self.share == 1:
            return whole
        rng = np.random.default_rng(self.seed)
        sizes = len(whole.queries), len(whole.pool)
        drawn = [np.sort(rng.permutation(size)[: round(self.share * size)]) for size in sizes]
        return whole.rows(*drawn)

    def _enlarged(self, whole: Sample) -> Sample:
        """As many times the pool rows, or all there are."""
        rows, features = self.parts.get("more", self._more)
        count = round((self.share - 1) * len(whole.pool))
        pool_features = np.concatenate([whole.pool_features, features[:count]])
        return replace(whole, pool=[*whole.pool, *rows[:count]], pool_features=pool_features)

    def _more(self) -> tuple[list[Example], Floats]:
        folder = self.folder / "features" / "more"
        write_features(self.teacher(), self.problem.unlabelled.pool, "pool", folder)
        return read_features(Store(folder))

    def _kept_sample(self, name: str, split: Split) -> Sample:
        folder = self.folder / "features" / name
        write_features(self.teacher(), split.queries, "query", folder / "queries")
        write_features(self.teacher(), split.pool, "pool", folder / "pool")
        return FeaturesFolder(folder).sample

    def _kept_encoder(self, name: str, make: Callable[[], InfluenceEncoder]) -> InfluenceEncoder:
        """The named encoder, from disk where an earlier run made it."""

        def get() -> InfluenceEncoder:
            folder, teacher = self.folder / "encoders" / name, self.teacher()
            if not (folder / "influcoder.json").exists():
                made = make()
                made.provenance = replace(teacher.provenance, student=made.provenance.student)
                made.teacher_state = {key: tensor.numpy() for key, tensor in teacher.state().items()}
                made.save(folder)
            return InfluenceEncoder.load(folder, decoder=self.model)

        return self.parts.get(f"encoder {name}", get)
