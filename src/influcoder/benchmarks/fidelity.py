"""`influcoder benchmark fidelity`: how well does each method rank a pool as the exact teacher does?

Every corpus with every seed is a `Place`: its own split, teacher and students. What is learnt is learnt on the
training side; 15 % of it chooses between models; every number is of the test side, which nothing has seen.

    tasks    BIG-Bench Hard asked of Dolly, and of a second pool; students of one pool are held against the other too
    facts    paraphrases of false facts, on a pool of their statements and look-alikes: recall@10 of the statement
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.backbone import sentence_transformer
from influcoder.baselines import Bm25, Random, Scorer, Tfidf
from influcoder.benchmarks.corpora import POOLS, Budget, Split, facts, states, tasks
from influcoder.benchmarks.methods import Scored, World, kept, of_scorer
from influcoder.benchmarks.places import Place
from influcoder.decoder import Decoder
from influcoder.decoder_tables import backbone_of, expected_embeddings
from influcoder.distill import ClosedFormRecipe, Sample, distil_static
from influcoder.encoder import Floats, InfluenceEncoder
from influcoder.errors import ConfigError
from influcoder.evaluation import EncoderScorer, ExactQueryScorer, Surface, TeacherScorer, count_overlap
from influcoder.metrics import METRICS, agreement, retrieval, spearman_rows, top_overlap_rows
from influcoder.paper import PaperRecipe, distil_paper
from influcoder.progress import progress
from influcoder.pseudo import PseudoLabels
from influcoder.samples import split_sample
from influcoder.teachers import GradientTeacher, TeacherSettings
from influcoder.wording import some_of

SHORTLISTS = (0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75)
FACTS = "facts"
CORPORA = (*POOLS, FACTS)
TIERS = ("static", "forward", "short")
"""that are solved in closed form"""
PSEUDO = "static-from-short"
"""the static tier that learns from the short tier's pseudo-labels of `Split.more` as well"""


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
    """

    seeds: int = 3
    budget: Budget = field(default_factory=lambda: Budget(more_queries=2000, more_pool=7000))
    shares: tuple[float, ...] = (0.125, 0.25, 0.5)
    times: tuple[int, ...] = (4, 8)
    backbone: str | None = None
    epochs: int = 8
    corpora: tuple[str, ...] = CORPORA

    def __post_init__(self) -> None:
        unknown = [name for name in self.corpora if name not in CORPORA]
        if unknown or not self.corpora:
            raise ConfigError(f"corpora: {some_of(unknown) or 'none'}, expected some of {', '.join(CORPORA)}.")


def fidelity(decoder: Decoder, data: Path, folder: Path, settings: FidelitySettings) -> dict[str, Any]:
    """Run the benchmark in `folder`, which the caller has claimed; a killed run goes on where it stopped."""
    expected = expected_embeddings(decoder)
    found: dict[str, list[dict[str, Any]]] = {}
    with progress("corpora and seeds", settings.seeds * len(settings.corpora)) as advance:
        for seed in range(settings.seeds):
            places = _places(decoder, data, folder, settings, seed)
            students = {one.name: _Students(one, expected, settings) for one in places}
            for place in places:
                pools = {name: one for name, one in students.items() if {name, place.name} <= set(POOLS)}
                others = [one for name, one in pools.items() if name != place.name]
                found.setdefault(place.name, []).append(_judged(place, students[place.name], others))
                advance(1)
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "settings": asdict(settings),
        "splits": asdict(settings.budget) | {"overlap": sum(one["overlap"] for each in found.values() for one in each)},
        "corpora": {name: _summary(each) for name, each in found.items()},
    }


def _places(decoder: Decoder, data: Path, folder: Path, settings: FidelitySettings, seed: int) -> list[Place]:
    teacher = GradientTeacher(decoder, TeacherSettings(seed=seed))
    splits = {name: _split(data, name, settings.budget, seed) for name in settings.corpora}
    return [Place(name, seed, folder / f"{name}-{seed}", split, teacher) for name, split in splits.items()]


def _split(data: Path, corpus: str, budget: Budget, seed: int) -> Split:
    return facts(data, budget, seed) if corpus == FACTS else tasks(data, corpus, budget, seed)


class _Students:
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
        place, decoder = self.place, self.place.teacher.decoder

        def make() -> InfluenceEncoder:
            return distil_static(
                backbone_of(decoder),
                *split_sample(self._learnt_from(share), place.seed),
                ClosedFormRecipe(seed=place.seed),
                expected=self._expected,
                forward=decoder if tier == "forward" else None,
                short=place.teacher if tier == "short" else None,
                pseudo=PseudoLabels.by(self.closed_form("short", share), *place.split.more) if tier == PSEUDO else None,
            )

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
            return distil_paper(backbone, place.train.queries, place.train.pool, place.train.influence, recipe)

        return place.encoder("paper-recipe", make, recipe="paper")

    def scorers(self) -> dict[str, Callable[[], Scorer]]:
        """Every method of the table by name, the truth's own second seed included; made where it is asked for."""
        place, decoder, backbone = self.place, self.place.teacher.decoder, self._settings.backbone
        again = replace(place.teacher.settings, seed=place.seed + 1000)
        found: dict[str, Callable[[], Scorer]] = {tier: partial(self._as_text, tier) for tier in self.tiers}
        found |= {f"{tier}-exact-query": partial(self._exact, tier) for tier in self.tiers}
        found |= {
            "surface": self._surface,
            "tfidf": Tfidf,
            "bm25": Bm25,
            "random": partial(Random, place.seed),
            "exact": lambda: TeacherScorer(GradientTeacher(decoder, again)),
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


def _judged(place: Place, students: _Students, others: Sequence[_Students]) -> dict[str, Any]:
    """What every method did on one place's test side."""
    (queries, pool), test = place.split.test, place.test
    split = place.split
    overlap = sum(count_overlap([*split.train[side], *split.more[side]], split.test[side]) for side in (0, 1))
    world, truth = World(pool, queries, []), test.influence
    lengths = np.array([len(one.completion) for one in pool])
    methods = students.scorers()
    for one in others:
        methods |= one.travelling()
    kept_in = place.folder / "scores"
    scored = {
        name: kept(kept_in / name.replace(".", "-"), partial(_made, make, world)) for name, make in methods.items()
    }
    for tier in students.tiers:
        exact = scored[f"{tier}-exact-query"]
        scored[f"{tier}-exact-query-int8"] = _in_int8(exact, students.closed_form(tier), test)
    found: dict[str, Any] = {
        "overlap": overlap,
        "methods": {
            name: agreement(truth, one.scores, lengths, seed=place.seed)
            | {
                "ms_per_example": 1000 * one.seconds / (len(queries) + len(pool)),
                "bytes_per_example": one.bytes_per_example,
            }
            for name, one in scored.items()
        },
        "shortlists": {
            tier: {f"{share:g}": _kept_by(truth, scored[f"{tier}-exact-query"].scores, share) for share in SHORTLISTS}
            for tier in students.tiers
        },
    }
    found["curve"] = {name: share * len(place.train.pool) for name, share in ({"static": 1.0} | students.curve).items()}
    found["trust"] = {tier: _trusted(students.closed_form(tier), test, scored[tier].scores) for tier in students.tiers}
    if place.name == FACTS:
        found["recall"] = _recall(truth, scored, states(queries, pool))
    return found


def _made(make: Callable[[], Scorer], world: World) -> Scored:
    return of_scorer(make(), world)


def _in_int8(exact: Scored, encoder: InfluenceEncoder, test: Sample) -> Scored:
    """The same scores from pool vectors of one byte a number, one scale a dimension."""
    vectors = encoder.encode_pool(test.pool)
    scale = np.maximum(np.abs(vectors).max(axis=0), 1e-30) / 127
    codes = np.round(vectors / scale).astype(np.int8)
    queries = encoder.project_query(test.queries, test.query_features)
    return Scored(queries @ (codes * scale).T, exact.seconds, codes.shape[1])


def _trusted(encoder: InfluenceEncoder, test: Sample, scores: Floats) -> dict[str, float]:
    """How well an encoder foretold the agreement of each test query, asked as text."""
    agreed = spearman_rows(test.influence, scores)
    middle, low, high = encoder.trust["text"].expect(encoder.encode_query(test.queries)).T
    return {
        "expected": float(middle.mean()),
        "found": float(agreed.mean()),
        "off_by": float(np.abs(middle - agreed).mean()),
        "inside_band": float(((agreed >= low) & (agreed <= high)).mean()),
        "band_width": float((high - low).mean()),
    }


def _kept_by(truth: Floats, scores: Floats, share: float) -> float:
    """Share of the truth's top tenth among a query's best `share` of the pool: what exact re-scoring then finds."""
    count = round(share * truth.shape[1])
    listed = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    rescored = np.full(truth.shape, -np.inf)
    np.put_along_axis(rescored, listed, np.take_along_axis(truth, listed, 1), 1)
    return float(top_overlap_rows(truth, rescored).mean())


def _recall(truth: Floats, scored: Mapping[str, Scored], relevant: Any) -> dict[str, dict[str, float]]:
    """Recall@10 of the statement that a question paraphrases; the cascade re-scores the static tier's first 10 %."""
    listed = np.argsort(-scored["static-exact-query"].scores, axis=1, kind="stable")[:, : truth.shape[1] // 10]
    cascade = np.full(truth.shape, -np.inf)
    np.put_along_axis(cascade, listed, np.take_along_axis(truth, listed, 1), 1)
    matrices = {name: one.scores for name, one in scored.items()} | {"teacher": truth, "cascade": cascade}
    return {name: retrieval(matrix, relevant) for name, matrix in matrices.items()}


def _summary(places: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds, with the range of the seeds and the mean of their bootstrap intervals."""
    names = places[0]["methods"]
    methods: dict[str, Any] = {}
    for name in names:
        mine = [one["methods"][name] for one in places]
        methods[name] = {
            key: float(np.mean([one[key] for one in mine])) for key in (*METRICS, "ms_per_example", "bytes_per_example")
        }
        methods[name]["interval_95"] = {
            key: np.mean([one["interval_95"][key] for one in mine], axis=0).tolist() for key in METRICS
        }
        methods[name]["seeds"] = {key: [one[key] for one in mine] for key in METRICS}
    found: dict[str, Any] = {"methods": methods}
    found |= {part: _means([one[part] for one in places]) for part in ("shortlists", "trust")}
    found["curve"] = places[0]["curve"]
    if "recall" in places[0]:
        found["recall"] = _means([one["recall"] for one in places])
    return found


def _means(each: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: float(np.mean([one[name][key] for one in each])) for key in values}
        for name, values in each[0].items()
    }


def _share_of(whole: Sample, share: float, seed: int) -> Sample:
    """A drawn share of both sides."""
    rng = np.random.default_rng(seed)
    kept = [np.sort(rng.permutation(len(side))[: round(share * len(side))]) for side in (whole.queries, whole.pool)]
    return whole.rows(kept[0], kept[1])
