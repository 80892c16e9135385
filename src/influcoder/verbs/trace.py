"""The verb `trace`: from a question to the training rows behind its answer, in one step.

It draws a sample of the pool, takes its gradients, distils, indexes the whole pool, and asks. What it makes stays in
the output folder (`influcoder.verbs.trace_folder`), so the next question needs one gradient and a search.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from influcoder.attribution.hits import Hits
from influcoder.attribution.recheck import Recheck
from influcoder.attribution.search import search_both_sides
from influcoder.data.examples import Example
from influcoder.data.sampling import draw
from influcoder.errors import ConfigError
from influcoder.model.decoder import Decoder
from influcoder.store.output_folder import Folder, local_inputs
from influcoder.student.encoder_folder import load as load_encoder
from influcoder.student.encoder_folder import teacher_of
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.verbs.distill import distill
from influcoder.verbs.features import features
from influcoder.verbs.index import index as index_pool
from influcoder.verbs.opening import AnyDecoder, Rows, open_any_index, open_decoder, stream_rows
from influcoder.verbs.plan import LARGEST_SAMPLE, TracePlan, duration, plan_trace
from influcoder.verbs.questions import Question, one_question, read_questions
from influcoder.verbs.trace_folder import (
    memorised_ids,
    pool_fingerprint,
    read_plan,
    refuse_other,
    write_answers,
    write_plan,
)

TEACHER = "layer-cosine"
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trace:
    """What was asked, and the training rows that push towards the answer and away from it.

    Attributes:
        question: prompt and completion, and whether the completion is the model's own.
        hits: rows that push towards the answer, strongest first; their `trust` says how far to trust the ranking.
        against: rows that push away from it.
        pool_as_queries: whether there were few questions, so that `trust` was measured on pool rows in their role.
        memorised: ids of hits that the model has memorised, whose gradients are mostly noise; known for the sample.
        folder: the output folder.
    """

    question: Question
    hits: Hits
    against: Hits
    pool_as_queries: bool
    memorised: frozenset[str]
    folder: Path

    @property
    def answer(self) -> str:
        """What the rows were searched for."""
        return self.question.example.completion

    def json(self) -> dict[str, Any]:
        """The answer, ready for JSON; hits and certificates as `influcoder search --json` prints them."""
        against = self.against.json()
        return {
            "id": self.question.example.id,
            "prompt": self.question.example.prompt,
            "answer": self.answer,
            "generated": self.question.generated,
            **self.hits.json(),
            "against": against["hits"],
            "certified_against": against["certified"],
            "memorised": sorted(self.memorised),
        }


def trace(
    decoder: AnyDecoder,
    pool: Rows,
    output_dir: str | Path,
    *,
    query: str | None = None,
    completion: str | None = None,
    queries: Rows | None = None,
    like: Rows | None = None,
    adapter: str | Path | None = None,
    teacher: str = TEACHER,
    max_length: int = 1024,
    budget: float = 120,
    sample: int | None = None,
    k: int = 5,
    verify: int = 0,
    certify: int = 0,
    tokens: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    tell: Tell = lambda line: None,
) -> list[Trace]:
    """Find the training rows behind a model's answer, in one step.

    The first call makes features, encoder and index in `output_dir`, in about the time of `budget`; if it was
    interrupted, the next resumes it. Later calls with the same decoder and pool only search.

    Args:
        decoder: the model whose training is attributed: a Hugging Face folder, hub id or `Decoder`.
        pool: its training rows: files, folders, globs or URLs; a list of rows or of `Example`s; or a `Dataset`.
        output_dir: a new or empty folder, or one of an earlier call.
        query: what the model is asked, as a user's turn.
        completion: what it says; its own greedy answer when omitted.
        queries: rows of questions and answers instead of `query`.
        like: prompts similar to those that will be asked, which the encoder learns from as well; those without a
            completion get the model's own.
        adapter: a PEFT LoRA adapter of a decoder that is not loaded yet.
        teacher: what influence is, by name, as `influcoder teachers` lists them.
        max_length: tokens of an example that are read, for a decoder that is not loaded yet.
        budget: about how many seconds the first call may take, from now on; it decides on the sample and on what the
            encoder reads.
        sample: pool rows whose gradients are taken, in place of as many as the budget allows.
        k: how many rows to find on each side.
        verify: how many of the best candidates of each side real gradients re-score; 0 for none.
        certify: how many random rows of those that were not re-scored to score as well; 0 for none.
        tokens: show which tokens carry the influence of each hit; with `verify`.
        seed: of everything random.
        overwrite: empty `output_dir` first.
        tell: called with a line of text as the work goes on.

    Returns:
        A `Trace` for each question.

    Raises:
        ConfigError: no question, or two kinds of it; settings that do not go together.
        DataError: a row cannot be used; or the model has no answer of its own.
        StoreError: the folder holds something else.
        StoreMismatch: the folder was made with another decoder, pool or teacher.

    >>> import influcoder
    >>> question = {"query": "Two plus two?", "completion": "four", "k": 3}
    >>> trace = influcoder.trace("decoder", "pool.jsonl", "traced", **question)[0]
    >>> [hit.rank for hit in trace.hits], trace.hits.trust is not None
    ([1, 2, 3], True)
    """
    if (query is None) == (queries is None) or (completion is not None and query is None):
        raise ConfigError("what is asked? Give --query, with or without --completion, or rows with --queries.")
    deadline = time.perf_counter() + budget
    recheck = Recheck(verify, certify, tokens)
    settings = TeacherSettings.named(teacher, seed=seed)
    recheck.refuse_impossible(k, settings)
    pool = list(pool) if isinstance(pool, Iterator) else pool
    loaded = open_decoder(decoder, adapter, max_length)
    inputs = local_inputs(decoder, adapter, pool, queries, like)
    with Folder(Path(output_dir), True, overwrite, inputs).claim() as path:
        settings_made = {
            "decoder": loaded.fingerprint.decoder,
            "tokenizer": loaded.fingerprint.tokenizer,
            "max_length": loaded.max_length,
            "pool": pool_fingerprint(pool),
            "teacher": teacher,
            "seed": seed,
        }
        refuse_other(path, settings_made, sample)
        questions = read_questions(loaded, queries, "queries") if queries is not None else []
        questions += [] if query is None else [one_question(loaded, query, completion)]
        if not (path / "index" / "metrics.json").exists():
            similar = [] if like is None else read_questions(loaded, like, "like")
            learn_from = [question.example for question in questions]
            learn_from += [replace(each.example, id=f"like-{each.example.id}") for each in similar]
            plan, learnt_from = _planned(
                path, settings_made, loaded, pool, learn_from, settings, deadline, sample, tell
            )
            _make(path, plan, loaded, pool, learnt_from, settings, tell)
        traces = _ask(path, loaded, questions, k, recheck)
        write_answers(path, [question.example for question in questions], [answer.json() for answer in traces])
    return traces


def _planned(
    path: Path,
    settings_made: Mapping[str, Any],
    decoder: Decoder,
    pool: Rows,
    questions: Sequence[Example],
    settings: TeacherSettings,
    deadline: float,
    sample: int | None,
    tell: Tell,
) -> tuple[TracePlan, Sequence[Example]]:
    """The plan, and the questions that the encoder learns from: those of an interrupted call if there is one."""
    if (earlier := read_plan(path)) is not None:
        tell("Going on where an earlier run stopped.")
        return earlier
    drawn = draw(stream_rows(pool, "pool", decoder), sample or LARGEST_SAMPLE, settings.seed)
    plan = plan_trace(make_teacher(decoder, settings), questions, drawn, deadline - time.perf_counter(), sample)
    write_plan(path, settings_made, plan, questions)
    return plan, questions


def _make(
    path: Path,
    plan: TracePlan,
    decoder: Decoder,
    pool: Rows,
    questions: Sequence[Example],
    settings: TeacherSettings,
    tell: Tell,
) -> None:
    """Make features, encoder and index; what an earlier call finished is kept."""
    tell(
        f"{plan.rows:,} pool rows: the gradients of {plan.sample:,} of them, then all of them read by an encoder "
        f"({plan.effort}). About {duration(plan.seconds)}."
    )
    reader = decoder if plan.effort.depth else None
    folder = Folder(path / "features", resume=True)
    features(decoder, questions, pool, folder, settings, sample=plan.sample, reliable=False)
    if not (path / "encoder" / "metrics.json").exists():
        tell("Distilling.")
        folder = Folder(path / "encoder", overwrite=True)
        distill(path / "features", folder, effort=plan.effort, decoder=reader, seed=settings.seed)
    tell("Reading the pool.")
    encoder = load_encoder(path / "encoder", decoder=reader)
    index_pool(encoder, stream_rows(pool, "pool", decoder), Folder(path / "index", resume=True), decoder=reader)


def _ask(path: Path, decoder: Decoder, questions: Sequence[Question], k: int, recheck: Recheck) -> list[Trace]:
    """Search both sides for every question."""
    index, _ = open_any_index(path / "index", decoder)
    examples = [question.example for question in questions]
    sides = search_both_sides(index, examples, k=k, recheck=recheck, teacher=teacher_of(index.encoder, decoder))
    memorised = memorised_ids(path)
    student = index.encoder.provenance.student
    by_pool = student is not None and bool(student.pool_as_queries)
    return [
        Trace(question, hits, against, by_pool, memorised & {hit.example.id for hit in (*hits, *against)}, path)
        for question, hits, against in zip(questions, *sides, strict=True)
    ]
