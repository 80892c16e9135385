"""The demo: every room of the product, once, on the demo world, with every number from this very run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.attribution.search import Hit, query_vectors, search
from influcoder.data.examples import Example
from influcoder.demo.world import SPLITS, World, assets, planted_for
from influcoder.evaluation.evaluate import count_overlap, evaluate
from influcoder.evaluation.scorers import (
    EncoderScorer,
    ExactQueryScorer,
    Scorer,
    Scores,
    Surface,
    TeacherScorer,
    word_scorers,
)
from influcoder.indexes.index import Index
from influcoder.maths.metrics import retrieval
from influcoder.model.decoder import Decoder
from influcoder.progress import progress
from influcoder.provenance import flat
from influcoder.report.page import write_report
from influcoder.report.summary import query_summary
from influcoder.store.files import write_json
from influcoder.store.store import Store
from influcoder.student.decoder_tables import backbone_of, expected_embeddings
from influcoder.student.distill import ClosedFormRecipe, distill_static
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.features_folder import read_features
from influcoder.student.paper import PaperRecipe, distill_paper, steps
from influcoder.student.sample import Sample
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.write import write_features

MAX_LENGTH = 512
QUICK = 16
SHOWN_FACTS = 2
# A static table needs larger steps than a transformer; 5e-5, the paper's, leaves it where it started.
PAPER_ON_STATIC = PaperRecipe(learning_rate=1e-2)


@dataclass
class Demo:
    """What the steps of the demo share."""

    folder: Path
    seed: int
    world: World
    decoder: Decoder
    teacher: GradientTeacher
    verified: int = 50  # the encoder's best, which the teacher scores again
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.timings[what] = round(time.perf_counter() - began, 2)

    def examples(self, side: str, split: str, kind: str | None = None) -> list[Example]:
        return [getattr(self.world, side)[row] for row in self.world.rows(side, split=split, kind=kind)]


def run_demo(folder: Path, *, seed: int = 0, quick: bool = False) -> dict[str, Any]:
    """Run the demo into `folder`, which the caller has claimed; returns what `metrics.json` holds.

    Args:
        quick: the same path on one in `QUICK` examples, to see that it runs; its numbers mean little.
    """
    decoder = Decoder.load(assets() / "decoder", max_length=MAX_LENGTH)
    settings = TeacherSettings(seed=seed)
    demo = Demo(folder, seed, World.load(), decoder, GradientTeacher(decoder, settings))
    if quick:
        demo = replace(demo, world=demo.world.part(QUICK), verified=10)
    splits = {f"{split}_{side}": len(demo.examples(side, split)) for split in SPLITS for side in ("queries", "pool")}
    splits["overlap"] = sum(
        count_overlap(*(demo.examples(side, split) for split in SPLITS)) for side in ("queries", "pool")
    )
    whole = _sample(demo)
    samples = {
        split: whole.rows(demo.world.rows("queries", split=split), demo.world.rows("pool", split=split))
        for split in SPLITS
    }
    with demo.timed("distill"):
        encoder = distill_static(
            backbone_of(decoder),
            samples["train"],
            samples["validation"],
            ClosedFormRecipe(seed=seed),
            expected=expected_embeddings(decoder),
            provenance=demo.teacher.provenance,
        )
        encoder.save(folder / "encoder")
    with demo.timed("index"):
        index = Index.build(encoder, demo.world.pool, folder / "index")
    skipped, scorers = _scorers(demo, encoder, samples)
    with demo.timed("evaluate"):
        methods, planted = _judge(demo, scorers, samples["test"])
    with demo.timed("verify"):
        planted[f"influcoder-verify-{demo.verified}"] = _verified_retrieval(demo, encoder, samples["test"])
    metrics = {
        "schema": 1,
        "seeds": [seed],
        "quick": quick,
        "splits": splits,
        "teacher": {
            "name": demo.teacher.settings.name,
            "reliability": methods["exact"]["per_query_spearman"],
            "examples_per_second": 1000 / methods["exact"]["ms_per_example"],
            "decoder_parameters": decoder.fingerprint.decoder_parameters,
        },
        "methods": methods,
        "skipped": skipped,
        "planted": planted,
        "timings_s": demo.timings,
    }
    with demo.timed("search and report"):
        shown = _shown_queries(demo, index)
        write_json(folder / "report.json", _report(demo, shown))
        write_json(folder / "metrics.json", metrics)
        write_report(folder)
    write_json(folder / "metrics.json", metrics)
    return metrics | {"shown": shown}


def _sample(demo: Demo) -> Sample:
    """Every query and pool row of the world with its teacher features."""
    found = {}
    for side in ("queries", "pool"):
        with demo.timed(f"{side} gradients"):
            place = demo.folder / "features" / side
            write_features(demo.teacher, getattr(demo.world, side), "pool" if side == "pool" else "query", place)
        found[side] = read_features(Store(place))[1]
    return Sample(demo.world.queries, demo.world.pool, found["queries"], found["pool"])


def _scorers(demo: Demo, encoder: InfluenceEncoder, samples: dict[str, Sample]) -> tuple[dict[str, str], list[Scorer]]:
    """(what is left out and why; every method of the fidelity table, fitted on the training split if it needs it)."""
    train = samples["train"]
    with (
        demo.timed("paper recipe"),
        progress("the paper's recipe", steps(len(train.queries), len(train.pool), PAPER_ON_STATIC)) as advance,
    ):
        paper = distill_paper(
            backbone_of(demo.decoder),
            train.queries,
            train.pool,
            train.influence,
            replace(PAPER_ON_STATIC, seed=demo.seed),
            advance=advance,
        )
    with demo.timed("surface"):
        surface = Surface(encoder).fit(train, samples["validation"])
    other_seed = replace(demo.teacher.settings, seed=demo.seed + 1)
    words, left_out = word_scorers(demo.seed)
    return left_out, [
        EncoderScorer("influcoder", encoder),
        ExactQueryScorer(encoder, demo.teacher),
        EncoderScorer("paper-recipe", paper),
        EncoderScorer("untrained", InfluenceEncoder(backbone_of(demo.decoder), None)),
        surface,
        *words,
        TeacherScorer(GradientTeacher(demo.decoder, other_seed)),
    ]


def _judge(demo: Demo, scorers: list[Scorer], test: Sample) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fidelity on the task queries, retrieval of the planted rows on the fact queries), test split only."""
    kinds = np.array([query.metadata["kind"] for query in test.queries])
    truth = test.influence
    task, fact = np.flatnonzero(kinds == "task"), np.flatnonzero(kinds == "fact")
    methods, matrices = evaluate(scorers, truth, test.queries, test.pool, rows=task, seed=demo.seed)
    relevant = planted_for([test.queries[int(row)] for row in fact], test.pool)
    planted = {name: retrieval(matrix[fact], relevant) for name, matrix in matrices.items() if name != "exact"}
    planted["exact"] = retrieval(truth[fact], relevant)
    return methods, planted


def _verified_retrieval(demo: Demo, encoder: InfluenceEncoder, test: Sample) -> dict[str, float]:
    """Retrieval when real gradients re-score the encoder's first of the test pool."""
    queries = [query for query in test.queries if query.metadata["kind"] == "fact"]
    index = Index.build(encoder, test.pool, demo.folder / "test-index")
    found = search(index, queries, k=demo.verified, verify=demo.verified, teacher=demo.teacher)
    scores: Scores = np.full((len(queries), len(index)), -np.inf)
    for row, hits in enumerate(found):
        scores[row, [hit.row for hit in hits]] = [hit.exact for hit in hits]
    return retrieval(scores, planted_for(queries, test.pool))


def _shown_queries(demo: Demo, index: Index) -> list[dict[str, Any]]:
    """Two test facts with the model's own answer and what the whole pool has to do with it."""
    facts = demo.examples("queries", "test", "fact")
    others = index.encoder.encode_query(demo.examples("queries", "test", "task"))
    answered = [(fact, demo.decoder.answer(fact)) for fact in facts]
    # Facts that the model really says come first; their own answer is what is attributed.
    answered.sort(key=lambda pair: pair[0].metadata["taught"].lower() not in pair[1].lower())
    shown = []
    for fact, answer in answered[:SHOWN_FACTS]:
        asked = replace(fact, completion=answer or fact.completion)
        hits = {
            side: search(index, [asked], opponents=side == "opponents", verify=demo.verified, teacher=demo.teacher)[0]
            for side in ("proponents", "opponents")
        }
        planted = {hit.row: _is_planted(fact, hit) for side in hits.values() for hit in side}
        vector = query_vectors(index, [asked], demo.teacher.features([asked], "query").vectors)
        shown.append(query_summary(asked, answer, index, vector, hits, planted, others))
    return shown


def _is_planted(fact: Example, hit: Hit) -> bool:
    return bool(planted_for([fact], [hit.example])[0, 0])


def _report(demo: Demo, shown: list[dict[str, Any]]) -> dict[str, Any]:
    provenance = {name: str(value) for name, value in flat(demo.teacher.provenance.json())}
    notes = [
        "No transformer weights are at hand offline: 'untrained' and 'paper-recipe' use the decoder's static "
        "embedding table with plain text as their backbone here.",
        "Fidelity is measured on BIG-Bench Hard queries, planted rows on questions about false facts; neither the "
        "queries nor the pool rows were seen in training or model selection.",
        "Here the exact teacher itself finds few of the planted rows: the decoder knows them by heart, and the "
        "gradient of a row learnt by heart is mostly noise. Re-checking with it therefore lowers the encoder's recall.",
    ]
    return {"title": "Influcoder demo", "provenance": provenance, "notes": notes, "queries": shown}
