"""The demo: a decoder is fine-tuned, asked, explained, and trained again without the rows that are blamed."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from influcoder.attribution.recheck import Recheck
from influcoder.attribution.removal import FOUND, control_rows, first_rows
from influcoder.attribution.search import query_vectors, search, search_both_sides
from influcoder.data.columns import to_json
from influcoder.data.examples import Example
from influcoder.data.original import row_of
from influcoder.demo.parts import MAX_LENGTH, SIDES, TEACHER, TRAINING, Demo
from influcoder.demo.world import SPLITS, DemoWorld, assets, planted_for
from influcoder.evaluation.evaluate import count_overlap, evaluate
from influcoder.evaluation.methods import STANDARD
from influcoder.evaluation.proof import prove, summarise
from influcoder.evaluation.scorers import Scorer, Scores
from influcoder.extras import is_installed, pip_command
from influcoder.indexes.index import Index
from influcoder.maths.metrics import retrieval
from influcoder.model.decoder import Decoder
from influcoder.model.precision import Precision
from influcoder.provenance import flat
from influcoder.report.demo_output import QUESTIONS, TRAINED
from influcoder.report.page import write_report
from influcoder.report.summary import query_summary
from influcoder.store.files import atomic_write, write_json
from influcoder.student.encoder import InfluenceEncoder
from influcoder.student.sample import Sample
from influcoder.teachers.gradient import GradientTeacher

QUICK = 4
SHOWN = 2
"""questions whose rows are shown"""
REMOVED = 6
"""rows that are left out for each question of the proof"""
CERTIFIED = 200
COMPARED = (
    *("influcoder", "influcoder-exact-query", "paper-recipe", "untrained", "surface"),
    *("tfidf", "bm25", "random", "exact"),
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A demo whose index is made.

    Attributes:
        asked: the test questions of which the pool plants a wrong answer.
        answers: what the trained decoder answers them with.
    """

    demo: Demo
    asked: list[Example]
    answers: list[str]
    index: Index


def prepare(folder: Path, *, seed: int = 0, quick: bool = False, precision: Precision = "auto") -> "Prepared":
    """The demo up to what the explorer shows: the trained decoder, the questions with its answers, and the index.

    Args:
        folder: the caller has claimed it.
        quick: the same path on one in `QUICK` people, to see that it runs; its numbers mean little.
        precision: of the fine-tuning and the teacher.
    """
    base = Decoder.load(assets() / "decoder", max_length=MAX_LENGTH)
    teacher = GradientTeacher(base, replace(TEACHER, seed=seed, precision=precision))
    training = replace(TRAINING, seed=seed, precision=precision)
    demo = Demo(folder, seed, DemoWorld.load(), base, training, teacher)
    if quick:
        demo = replace(demo, world=demo.world.part(QUICK), verified=20)
    asked = demo.examples("queries", "test", "wrong")
    trained = demo.trained
    with demo.timed("ask"):
        answers = trained.answers(asked)
    trained.save(folder / TRAINED)
    said = [replace(query, completion=answer) for query, answer in zip(asked, answers, strict=True)]
    atomic_write(folder / QUESTIONS, b"".join(to_json(row_of(one)) + b"\n" for one in said))
    encoder = demo.encoder
    with demo.timed("index"):
        index = Index.build(encoder, demo.world.pool, folder / "index")
    return Prepared(demo, asked, answers, index)


def run_demo(folder: Path, *, seed: int = 0, quick: bool = False, precision: Precision = "auto") -> dict[str, Any]:
    """Run the demo into `folder`, which the caller has claimed; returns what `metrics.json` holds.

    Args:
        quick, precision: as of `prepare`.
    """
    began = time.perf_counter()
    prepared = prepare(folder, seed=seed, quick=quick, precision=precision)
    demo, asked, answers, index = prepared.demo, prepared.asked, prepared.answers, prepared.index
    encoder, test = demo.encoder, demo.splits["test"]
    splits = {f"{split}_{side}": len(demo.examples(side, split)) for split in SPLITS for side in SIDES}
    splits["overlap"] = sum(count_overlap(*(demo.examples(side, split) for split in SPLITS)) for side in SIDES)
    with demo.timed("prove"):
        proof = _proof(demo, index, asked)
    with demo.timed("rows shown"):
        shown = _shown(demo, index, asked, answers, proof)
    with demo.timed("methods compared"):
        skipped = {} if is_installed("bm25s") else {"bm25": pip_command("bm25s")}
        scorers = [STANDARD[name].make(demo) for name in COMPARED if name not in skipped]
        methods, planted = _judge(demo, scorers, test)
        planted[f"influcoder-verify-{demo.verified}"] = _verified_retrieval(demo, encoder, test)
    metrics = {
        "schema": 1,
        "seeds": [seed],
        "quick": quick,
        "splits": splits,
        "teacher": {
            "name": demo.exact.settings.name,
            "reliability": methods["exact"]["per_query_spearman"],
            "examples_per_second": 1000 / methods["exact"]["ms_per_example"],
            "decoder_parameters": demo.base.fingerprint.decoder_parameters,
        },
        "asked": len(asked),
        "says_what_is_planted": float(np.mean([_same(a, q.completion) for a, q in zip(answers, asked, strict=True)])),
        "proof": {name: proof["conditions"][name]["changed"] for name in proof["conditions"] if name != "all"},
        "conditions": proof["conditions"],
        "removed": proof["removed"],
        "certified": _certified(shown),
        "methods": methods,
        "skipped": skipped,
        "planted": planted,
        "timings_s": demo.timings,
    }
    write_json(folder / "report.json", _report(demo, shown))
    demo.timings["total"] = round(time.perf_counter() - began, 2)
    write_json(folder / "metrics.json", metrics)
    write_report(folder)
    return metrics | {"shown": shown}


def _same(answer: str, completion: str) -> bool:
    return answer.strip(" .").casefold() == completion.casefold()


def _certified(shown: list[dict[str, Any]]) -> dict[str, Any]:
    """The bounds of the questions that are shown: the mean and the worst."""
    bounds = [question["certified"] for question in shown]
    return {
        "sampled": bounds[0]["sampled"],
        "confidence": bounds[0]["confidence"],
        "at_most": float(np.mean([bound["at_most"] for bound in bounds])),
        "worst": max(bound["at_most"] for bound in bounds),
    }


def _proof(demo: Demo, index: Index, asked: list[Example]) -> dict[str, Any]:
    """The base trained again without the rows found, and without as many by each control; all asked once more."""
    found = search(index, asked, k=2 * REMOVED, teacher=demo.exact)
    blamed = first_rows([[hit.row for hit in hits] for hits in found], REMOVED * len(asked))
    removed = {FOUND: [blamed], **control_rows(index, asked, blamed, seeds=[demo.seed])}
    proof = prove(
        demo.trainer, asked, removed, demo.folder / "proof", seeds=[demo.seed], trained={demo.seed: demo.trained}
    )
    said = {name: outcomes[0].answers for name, outcomes in proof.items()}
    return {"removed": len(blamed), "conditions": summarise(proof), "answers": said}


def _judge(demo: Demo, scorers: list[Scorer], test: Sample) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fidelity on all test questions, retrieval of the planted rows for the wrong ones), test split only."""
    wrong = np.flatnonzero([query.metadata["kind"] == "wrong" for query in test.queries])
    methods, matrices = evaluate(scorers, test.influence, test.queries, test.pool, seed=demo.seed)
    relevant = planted_for([test.queries[int(row)] for row in wrong], test.pool)
    planted = {name: retrieval(matrix[wrong], relevant) for name, matrix in matrices.items() if name != "exact"}
    planted["exact"] = retrieval(test.influence[wrong], relevant)
    return methods, planted


def _verified_retrieval(demo: Demo, encoder: InfluenceEncoder, test: Sample) -> dict[str, float]:
    """Retrieval when real gradients re-score the encoder's first of the test pool."""
    queries = [query for query in test.queries if query.metadata["kind"] == "wrong"]
    index = Index.build(encoder, test.pool, demo.folder / "test-index")
    found = search(index, queries, k=demo.verified, verify=demo.verified, teacher=demo.exact)
    scores: Scores = np.full((len(queries), len(index)), -np.inf)
    for row, hits in enumerate(found):
        scores[row, [hit.row for hit in hits]] = [hit.exact for hit in hits]
    return retrieval(scores, planted_for(queries, test.pool))


def _shown(
    demo: Demo, index: Index, asked: list[Example], answers: list[str], proof: dict[str, Any]
) -> list[dict[str, Any]]:
    """A few questions with the model's own answer, the rows for and against it, and what it says without them."""
    others = index.encoder.encode_query(demo.examples("queries", "test", "right"))
    # Questions whose planted answer the model gives come first; its own answer is what is attributed.
    order = sorted(range(len(asked)), key=lambda place: not _same(answers[place], asked[place].completion))
    recheck = Recheck(demo.verified, CERTIFIED, tokens=True)
    shown = []
    for place in order[:SHOWN]:
        question = replace(asked[place], completion=answers[place] or asked[place].completion)
        sides = search_both_sides(index, [question], k=REMOVED, recheck=recheck, teacher=demo.exact)
        hits = {"proponents": sides[0][0], "opponents": sides[1][0]}
        planted = {hit.row: _is_planted(question, hit.example) for side in hits.values() for hit in side}
        vector = query_vectors(index, [question], demo.exact.features([question], "query").vectors)
        told = query_summary(question, answers[place], index, vector, hits, planted, others)
        told["proof"] = {name: of_all[place] for name, of_all in proof["answers"].items()}
        shown.append(told)
    return shown


def _is_planted(query: Example, row: Example) -> bool:
    return bool(planted_for([query], [row])[0, 0])


def _report(demo: Demo, shown: list[dict[str, Any]]) -> dict[str, Any]:
    provenance = {name: str(value) for name, value in flat(demo.exact.provenance.json())}
    notes = [
        "Kinds of rows: planted (says what is wrong), correct (says what is true), lookalike (the question's words, "
        "another matter), same-wording (the words of the question or of a planted row, about somebody else), dolly "
        "(ordinary instructions).",
        "No transformer weights are at hand offline: 'untrained' and 'paper-recipe' use the decoder's static "
        "embedding table with plain text as their backbone here.",
        "All numbers are of people whose questions and rows neither training nor model selection has seen.",
        "The teacher takes its gradients at the decoder before fine-tuning, where every row still teaches: a row that "
        "a model has memorised has a gradient of mostly noise.",
    ]
    return {"title": "Influcoder demo", "provenance": provenance, "notes": notes, "queries": shown}
