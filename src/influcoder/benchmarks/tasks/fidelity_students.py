"""The students of the fidelity benchmark, and how much they learn from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from influcoder.benchmarks.corpora.corpora import POOLS, Budget
from influcoder.benchmarks.methods.bench import EXACT, PSEUDO, TIERS, distilled
from influcoder.benchmarks.tasks.fidelity_place import Place, exact_teacher
from influcoder.errors import ConfigError, some_of
from influcoder.evaluation.scorers import (
    Bm25,
    EncoderScorer,
    ExactQueryScorer,
    Random,
    Scorer,
    Surface,
    TeacherScorer,
    Tfidf,
)
from influcoder.student.backbone import sentence_transformer
from influcoder.student.encoder import Floats, InfluenceEncoder
from influcoder.student.paper import PaperRecipe, distill_paper
from influcoder.student.sample import Sample, split_sample
from influcoder.teachers.settings import TeacherSettings

FACTS = "facts"
CORPORA = (*POOLS, FACTS)
MORE_QUERIES, MORE_POOL = 2000, 7000
"""further examples that no gradient is taken of, for pseudo-labels and the scaling curve"""


@dataclass(frozen=True, slots=True)
class FidelitySettings:
    """How much is learnt and measured.

    Attributes:
        seeds: of splits, teachers and students alike.
        budget: how many examples there are to learn from and to test on.
        shares: of the training examples, for the scaling curve.
        times: as many pool examples to learn from, for the same curve; as many as there are, where there are fewer.
        backbone: a Sentence Transformers folder or hub id for the paper's recipe; left out when None.
        epochs: of the paper's recipe.
        corpora: of `CORPORA`.
        teacher: whose influences are the truth; one that needs no checkpoints.
    """

    seeds: int = 3
    budget: Budget = field(default_factory=lambda: Budget(more_queries=MORE_QUERIES, more_pool=MORE_POOL))
    shares: tuple[float, ...] = (0.125, 0.25, 0.5)
    times: tuple[int, ...] = (4, 8)
    backbone: str | None = None
    epochs: int = 8
    corpora: tuple[str, ...] = CORPORA
    teacher: str = EXACT

    def __post_init__(self) -> None:
        unknown = [name for name in self.corpora if name not in CORPORA]
        if unknown or not self.corpora:
            raise ConfigError(f"corpora: {some_of(unknown) or 'none'}, expected some of {', '.join(CORPORA)}.")
        TeacherSettings.named(self.teacher)


class Students:
    """Every student of one place, made when it is asked for."""

    def __init__(self, place: Place, expected: Mapping[str, Floats], settings: FidelitySettings) -> None:
        self.place = place
        self._expected = expected
        self._settings = settings

    @property
    def tiers(self) -> tuple[str, ...]:
        """`TIERS`, and `PSEUDO` where there is something to label."""
        return (*TIERS, PSEUDO) if any(self.place.split.more) else TIERS

    def closed_form(self, tier: str, share: float = 1.0) -> InfluenceEncoder:
        """One of `tiers`, from a share of the training examples, or from so many times their pool."""
        place = self.place

        def make() -> InfluenceEncoder:
            samples = split_sample(self._learnt_from(share), place.seed)
            return distilled(tier, place.teacher, samples, place.seed, self._expected, place.split.more)

        return place.encoder(tier if share == 1.0 else f"{tier}-{share:g}", make, recipe=tier)

    @property
    def curve(self) -> dict[str, float]:
        """The static students that learn from less or more, by name: from which share, see `closed_form`."""
        found = {f"static, {share:g} of the examples": share for share in self._settings.shares}
        most = 1 + len(self.place.split.more[1]) / len(self.place.split.train[1])
        return found | {
            f"static, {min(times, most):.0f} times the pool": min(times, most)
            for times in self._settings.times
            if most > 1
        }

    def _learnt_from(self, share: float) -> Sample:
        place = self.place
        return place.enlarged(share) if share > 1 else _share_of(place.train, share, place.seed)

    def paper(self) -> InfluenceEncoder:
        """The paper's recipe on the backbone, all of the training examples."""
        place, recipe = self.place, PaperRecipe(seed=self.place.seed, epochs=self._settings.epochs)

        def make() -> InfluenceEncoder:
            backbone = sentence_transformer(str(self._settings.backbone))
            return distill_paper(backbone, place.train.queries, place.train.pool, place.train.influence, recipe)

        return place.encoder("paper-recipe", make, recipe="paper")

    def scorers(self) -> dict[str, Callable[[], Scorer]]:
        """Every method of the table by name, the truth's own second seed included; made where it is asked for."""
        place, backbone = self.place, self._settings.backbone
        again = replace(place.teacher.settings, seed=place.seed + 1000)
        found: dict[str, Callable[[], Scorer]] = {tier: partial(self._as_text, tier) for tier in self.tiers}
        found |= {f"{tier}-exact-query": partial(self._exact, tier) for tier in self.tiers}
        found |= {
            "surface": self._surface,
            "tfidf": Tfidf,
            "bm25": Bm25,
            "random": partial(Random, place.seed),
            "exact": lambda: TeacherScorer(exact_teacher(place.teacher.decoder, again, place.split)),
        }
        if backbone is not None:
            found["paper-recipe"] = self._paper_as_text
            found["untrained"] = lambda: EncoderScorer(
                "untrained", InfluenceEncoder(sentence_transformer(backbone), None)
            )
        found |= {name: partial(self._as_text, "static", share) for name, share in self.curve.items()}
        most, share = max(self.curve.items(), key=lambda one: one[1], default=("", 1.0))
        if share > 1:
            found[most.replace("static", "static-exact-query")] = partial(self._exact, "static", share)
            found[most.replace("static", "surface")] = partial(self._surface, share)
        return found

    def travelling(self) -> dict[str, Callable[[], Scorer]]:
        """What is held against another corpus than the one it learnt from."""
        name = self.place.name
        found: dict[str, Callable[[], Scorer]] = {f"static from {name}": partial(self._as_text, "static")}
        if self._settings.backbone is not None:
            found[f"paper-recipe from {name}"] = self._paper_as_text
        return found

    def _as_text(self, tier: str, share: float = 1.0) -> Scorer:
        return EncoderScorer(tier, self.closed_form(tier, share))

    def _paper_as_text(self) -> Scorer:
        return EncoderScorer("paper-recipe", self.paper())

    def _exact(self, tier: str, share: float = 1.0) -> Scorer:
        return ExactQueryScorer(self.closed_form(tier, share), self.place.teacher)

    def _surface(self, share: float = 1.0) -> Scorer:
        learnt_from = split_sample(self._learnt_from(share), self.place.seed)
        return Surface(self.closed_form("static")).fit(*learnt_from)


def _share_of(whole: Sample, share: float, seed: int) -> Sample:
    """A drawn share of both sides."""
    rng = np.random.default_rng(seed)
    kept = [np.sort(rng.permutation(len(side))[: round(share * len(side))]) for side in (whole.queries, whole.pool)]
    return whole.rows(kept[0], kept[1])
