"""The demo: a decoder is fine-tuned, asked, explained, and trained again without the rows that are blamed."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from influcoder.attribution.recheck import Recheck
from influcoder.attribution.removal import FOUND, control_rows, first_rows
from influcoder.attribution.search import asked_vectors, search, search_both_sides
from influcoder.data.columns import to_json
from influcoder.data.examples import Example
from influcoder.data.original import row_of
from influcoder.demo.parts import MAX_LENGTH, SIDES, TEACHER, TRAINING, Demo
from influcoder.demo.world import SPLITS, DemoWorld, assets, planted_for
from influcoder.evaluation.evaluate import count_overlap, evaluate
from influcoder.evaluation.methods import STANDARD
from influcoder.evaluation.proof import ALL, prove, summarise
from influcoder.evaluation.scorers import Scorer, Scores
from influcoder.extras import is_installed, pip_command
from influcoder.indexes.index import Index
from influcoder.maths.metrics import retrieval
from influcoder.model.decoder import Decoder
from influcoder.model.precision import Precision
from influcoder.progress import progress
from influcoder.provenance import flat
from influcoder.report.demo_output import QUESTIONS
from influcoder.report.page import write_report
from influcoder.report.summary import query_summary
from influcoder.store.files import atomic_write, write_json
from influcoder.student.sample import Sample
from influcoder.teachers.gradient import GradientTeacher

QUICK = 4
"""one in so many people is in the quick demo"""
REMOVED = 8
"""rows that are left out for each question of the proof: the first 7 hold all planted ones on the validation split"""
CERTIFIED = 200
COMPARED = (
    *("influcoder", "influcoder-exact-query", "paper-recipe", "untrained", "surface"),
    *("tfidf", "bm25", "random", "exact"),
)


def prepare(folder: Path, *, seed: int = 0, quick: bool = False, precision: Precision = "auto") -> None:
    """Make what the explorer shows: the trained decoder, the questions with its answers, and the index.

    Args:
        folder: the caller has claimed it.
        quick, precision: as of `run_demo`.
    """
    demo = _demo(folder, seed, quick, precision)
    with progress("fine-tuning", len(demo.world.pool) * demo.training.epochs) as advance:
        trained = demo.trainer.train([], seed, ALL, advance)
    _keep_questions(demo, trained.answers(demo.questions))
    demo.index  # noqa: B018 - made when it is asked for


def run_demo(folder: Path, *, seed: int = 0, quick: bool = False, precision: Precision = "auto") -> dict[str, Any]:
    """Run the demo into `folder`, which the caller has claimed; returns what `metrics.json` holds.

    Args:
        quick: the same path on one in `QUICK` people, to see that it runs; its numbers mean little.
        precision: of the fine-tuning and the teacher.
    """
    began = time.perf_counter()
    demo = _demo(folder, seed, quick, precision)
    questions, index, test = demo.questions, demo.index, demo.splits["test"]
    splits = {f"{split}_{side}": len(demo.examples(side, split)) for split in SPLITS for side in SIDES}
    splits["overlap"] = sum(count_overlap(*(demo.examples(side, split) for split in SPLITS)) for side in SIDES)
    with demo.timed("prove"):
        proof = _proof(demo, index, questions)
    answers, planted_answers = proof["answers"][ALL], [question.completion for question in questions]
    _keep_questions(demo, answers)
    with demo.timed("rows shown"):
        shown = _shown(demo, index, questions, answers, proof)
    with demo.timed("methods compared"):
        skipped = {} if is_installed("bm25s") else {"bm25": pip_command("bm25s")}
        scorers = [STANDARD[name].make(demo) for name in COMPARED if name not in skipped]
        methods, planted = _judge(demo, scorers, test)
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
        "asked": len(questions),
        "says_what_is_planted": float(np.mean([_same(*pair) for pair in zip(answers, planted_answers, strict=True)])),
        "proof": {name: proof["conditions"][name]["changed"] for name in proof["conditions"] if name != ALL},
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


def _demo(folder: Path, seed: int, quick: bool, precision: Precision) -> Demo:
    base = Decoder.load(assets() / "decoder", max_length=MAX_LENGTH)
    teacher = GradientTeacher(base, replace(TEACHER, seed=seed, precision=precision))
    world = DemoWorld.load()
    training = replace(TRAINING, seed=seed, precision=precision)
    if quick:
        small = world.part(QUICK)
        return Demo(folder, seed, small, base, replace(training, epochs=1), teacher, verified=20, reported=1)
    return Demo(folder, seed, world, base, training, teacher)


def _keep_questions(demo: Demo, answers: list[str]) -> None:
    """Write the questions, each with the trained decoder's own answer, for the explorer."""
    answered = [replace(query, completion=answer) for query, answer in zip(demo.questions, answers, strict=True)]
    atomic_write(demo.folder / QUESTIONS, b"".join(to_json(row_of(query)) + b"\n" for query in answered))


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


def _proof(demo: Demo, index: Index, questions: list[Example]) -> dict[str, Any]:
    """Train the base on the pool, without the blamed rows, and without as many of each control; ask all models."""
    hits_of_questions = search(index, questions, k=2 * REMOVED, teacher=demo.exact)
    blamed = first_rows([[hit.row for hit in hits] for hits in hits_of_questions], REMOVED * len(questions))
    removed = {FOUND: [blamed], **control_rows(index, questions, blamed, seeds=[demo.seed])}
    at_once = min(1 + len(removed), torch.get_num_threads())
    proof = prove(demo.trainer, questions, removed, demo.folder / "proof", seeds=[demo.seed], at_once=at_once)
    answers = {name: outcomes[0].answers for name, outcomes in proof.items()}
    return {"removed": len(blamed), "conditions": summarise(proof), "answers": answers}


def _judge(demo: Demo, scorers: list[Scorer], test: Sample) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fidelity on all test questions, retrieval of the planted rows for the wrong ones), test split only."""
    wrong = np.flatnonzero([query.metadata["kind"] == "wrong" for query in test.queries])
    methods, matrices = evaluate(scorers, test.influence, test.queries, test.pool, seed=demo.seed)
    relevant = planted_for([test.queries[int(row)] for row in wrong], test.pool)
    matrices["exact"] = test.influence  # this teacher, not that of another seed
    verified = _verified(matrices["influcoder-exact-query"], test.influence, demo.verified)
    matrices[f"influcoder-verify-{demo.verified}"] = verified
    planted = {name: retrieval(matrix[wrong], relevant) for name, matrix in matrices.items()}
    return methods, planted


def _verified(scores: Scores, truth: Scores, count: int) -> Scores:
    """The result of `search --verify`: the teacher's scores of each question's first rows, from known gradients."""
    first = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    rescored = np.full(truth.shape, -np.inf, truth.dtype)
    np.put_along_axis(rescored, first, np.take_along_axis(truth, first, axis=1), axis=1)
    return rescored


def _shown(
    demo: Demo, index: Index, questions: list[Example], answers: list[str], proof: dict[str, Any]
) -> list[dict[str, Any]]:
    """A few questions with the model's own answer, the rows for and against it, and what it says without them."""
    other_questions = index.encoder.encode_query(demo.examples("queries", "test", "right"))
    # Questions whose planted answer the model gives come first; its own answer is what is attributed.
    order = sorted(range(len(questions)), key=lambda place: not _same(answers[place], questions[place].completion))
    recheck = Recheck(demo.verified, CERTIFIED, tokens=True)
    shown = []
    for place in order[: demo.reported]:
        question = replace(questions[place], completion=answers[place] or questions[place].completion)
        sides = search_both_sides(index, [question], k=REMOVED, recheck=recheck, teacher=demo.exact)
        hits = {"proponents": sides[0][0], "opponents": sides[1][0]}
        planted = {hit.row: _is_planted(question, hit.example) for side in hits.values() for hit in side}
        vector = asked_vectors(index, [question], demo.exact)
        summary = query_summary(question, answers[place], index, vector, hits, planted, other_questions)
        summary["proof"] = {name: of_all[place] for name, of_all in proof["answers"].items()}
        shown.append(summary)
    return shown


def _is_planted(query: Example, row: Example) -> bool:
    return bool(planted_for([query], [row])[0, 0])


def _report(demo: Demo, shown: list[dict[str, Any]]) -> dict[str, Any]:
    provenance = {name: str(value) for name, value in flat(demo.exact.provenance.json())}
    notes = [
        "Kinds of rows: planted (says what is wrong), correct (says what is true), lookalike (the question's words, "
        "another matter), same-wording (the words of the question or of a planted row, about somebody else).",
        "No transformer weights are at hand offline: 'untrained' and 'paper-recipe' use the decoder's static "
        "embedding table with plain text as their backbone here.",
        "All numbers are of people whose questions and rows neither training nor model selection has seen.",
        "The teacher takes its gradients at the decoder before fine-tuning, where every row still teaches: a row that "
        "a model has memorised has a gradient of mostly noise.",
    ]
    return {"title": "Influcoder demo", "provenance": provenance, "notes": notes, "queries": shown}
