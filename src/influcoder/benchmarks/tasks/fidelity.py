"""`influcoder benchmark fidelity`: how well does each method rank a pool as the exact teacher does?

Every corpus with every seed is a `Place`: its own split, teacher and students. What is learnt is learnt on the
training side; 15 % of it chooses between models; every number is of the test side, which nothing has seen.

    tasks    BIG-Bench Hard asked of Dolly, and of a second pool; students of one pool are held against the other too
    facts    paraphrases of false facts, on a pool of their statements and look-alikes: recall@10 of the statement
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.benchmarks.corpora.corpora import POOLS, Budget, Split, facts, states, tasks
from influcoder.benchmarks.methods.registry import Scored, World, kept, of_scorer, refuse_other_run
from influcoder.benchmarks.tasks.fidelity_place import Place, exact_teacher
from influcoder.benchmarks.tasks.fidelity_students import FACTS, FidelitySettings, Students
from influcoder.evaluation.evaluate import count_overlap
from influcoder.evaluation.scorers import Scorer
from influcoder.maths.arrays import Floats
from influcoder.maths.metrics import METRICS, agreement, retrieval, spearman_rows, top_overlap_rows
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.student.decoder_tables import expected_embeddings
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample
from influcoder.teachers.settings import TeacherSettings

SHORTLISTS = (0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75)


def fidelity(decoder: Decoder, data: Path, folder: Path, settings: FidelitySettings) -> dict[str, Any]:
    """Run the benchmark in `folder`, which the caller has claimed; a killed run goes on where it stopped."""
    _same_run(folder, settings, decoder)
    expected = expected_embeddings(decoder)
    found: dict[str, list[dict[str, Any]]] = {}
    with progress("corpora and seeds", settings.seeds * len(settings.corpora)) as advance:
        for seed in range(settings.seeds):
            places = _places(decoder, data, folder, settings, seed)
            students = {one.name: Students(one, expected, settings) for one in places}
            for place in places:
                pools = {name: one for name, one in students.items() if {name, place.name} <= set(POOLS)}
                others = [one for name, one in pools.items() if name != place.name]
                found.setdefault(place.name, []).append(_judged(place, students[place.name], others))
                advance(1)
    return {
        "schema": 1,
        "seeds": list(range(settings.seeds)),
        "settings": asdict(settings),
        "splits": {"overlap": sum(one["overlap"] for each in found.values() for one in each)},
        "corpora": {name: _summary(each) for name, each in found.items()},
    }


def _same_run(folder: Path, settings: FidelitySettings, decoder: Decoder) -> None:
    """Scores and encoders that are kept would be taken for those of other settings; more seeds and corpora may come."""
    made_by = {key: value for key, value in asdict(settings).items() if key not in ("seeds", "corpora")}
    refuse_other_run(folder / "made_by.json", made_by | asdict(decoder.fingerprint))


def _places(decoder: Decoder, data: Path, folder: Path, settings: FidelitySettings, seed: int) -> list[Place]:
    teacher = TeacherSettings.named(settings.teacher, seed=seed)
    splits = {name: _split(data, name, settings.budget, seed) for name in settings.corpora}
    return [
        Place(name, seed, folder / f"{name}-{seed}", split, exact_teacher(decoder, teacher, split))
        for name, split in splits.items()
    ]


def _split(data: Path, corpus: str, budget: Budget, seed: int) -> Split:
    return facts(data, budget, seed) if corpus == FACTS else tasks(data, corpus, budget, seed)


def _judged(place: Place, students: Students, others: Sequence[Students]) -> dict[str, Any]:
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
        "examples": {part: [len(side) for side in getattr(split, part)] for part in ("train", "test", "more")},
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
    found |= {part: places[0][part] for part in ("curve", "examples")}
    if "recall" in places[0]:
        found["recall"] = _means([one["recall"] for one in places])
    return found


def _means(each: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: float(np.mean([one[name][key] for one in each])) for key in values}
        for name, values in each[0].items()
    }
