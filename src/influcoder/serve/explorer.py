"""What is served: an index with its encoder, and the decoder if one was given; opened once and asked by the worker.

Every method answers with a model of `influcoder.serve.wire`; the REST API sends it as JSON, the page puts it into a
template. What computes is awaited, and done by the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from influcoder.attribution.recheck import Recheck
from influcoder.attribution.search import query_vectors, search_both_sides
from influcoder.attribution.tokens import tokens_of_rows
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.indexes.lance import RECORD, LanceIndex
from influcoder.indexes.rows import examples_of
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.serve import answers
from influcoder.serve.jobs import Job, Jobs
from influcoder.serve.journal import Journal
from influcoder.serve.problems import Problem, busy, not_found
from influcoder.serve.recent import Recent
from influcoder.serve.selections import Selections
from influcoder.serve.settings import ServeSettings
from influcoder.serve.wire import (
    Asked,
    Provenance,
    Question,
    RowTokens,
    ScoreAnswer,
    ScoreRequest,
    SearchAnswer,
    SearchRequest,
    TokensAnswer,
    TokensRequest,
    VerifyRequest,
)
from influcoder.serve.worker import Worker
from influcoder.student.encoder_folder import teacher_of
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.opening import open_any_index, open_checkpoints, open_whole_index, read_rows
from influcoder.verbs.questions import one_question
from influcoder.verbs.show import show


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question that is ready to be searched with: its example, and its vector, (dim,)."""

    asked: Asked
    example: Example
    vector: Floats


class Explorer:
    """An index that is served.

    Attributes:
        settings: what was asked to be served.
        index: whose rows these are.
        decoder, teacher: None where no decoder was given.
        questions: the saved ones, by id.
        journal, selections: what is made here and kept.
        worker: the thread that computes.
        jobs: long work.
        ready: whether all is loaded.
        failed: what went wrong while it was loaded.

    Raises:
        StoreError: not an index, or a damaged one.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.index: Index | LanceIndex = open_any_index(settings.index)[0]
        self._as_opened = self._on_disk()
        self.decoder: Decoder | None = None
        self.teacher: Teacher | None = None
        self.journal = Journal(settings.state)
        self.selections = Selections(self, self.journal)
        self.questions = {one.id: one for file in settings.queries for one in read_rows(file, "queries")}
        self.questions |= {id: Example.question(*told, id=id) for id, *told in self.journal.questions()}
        self.worker = Worker()
        self.jobs = Jobs(self.worker)
        self.ready = False
        self.failed: Exception | None = None
        self._prepared: Recent[Prepared] = Recent(64)
        self._scores: Recent[Floats] = Recent(8)

    def load(self) -> None:
        """Load encoder and decoder: in the worker, while the service answers that it is loading."""
        settings = self.settings
        _, self.decoder = open_any_index(
            self.index, settings.decoder, settings.adapter, checkpoints=settings.checkpoints
        )
        if self.decoder is not None:
            encoder = self.index.encoder
            saved = open_checkpoints(settings.checkpoints, self.decoder, encoder.provenance)
            self.teacher = teacher_of(encoder, self.decoder, saved)
        self.index.encoder.encode_query([Example.question("a first question", "loads what is loaded late")])
        self.ready = True

    @property
    def changed(self) -> bool:
        """Whether the index has been changed on the disk since it was opened."""
        return self._on_disk() != self._as_opened

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            found = (self.index.folder / (RECORD if isinstance(self.index, LanceIndex) else "manifest.json")).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def refuse_unready(self) -> None:
        """See that the index can be asked.

        Raises:
            Problem: it is still being loaded, or was changed on the disk.
        """
        if not self.ready:
            raise busy("the encoder or the decoder is still being loaded.", 2, 503)
        if self.changed:
            raise Problem(503, "index_changed", "rows were added to the index or removed. Start the service again.")

    async def read(self, question: Question) -> Asked:
        """The question with its completion, the decoder's own where it has none, and what the decoder reads of it."""
        return (await self.prepared(question)).asked

    async def prepared(self, question: Question) -> Prepared:
        """The question with its vector."""
        self.refuse_unready()
        return await self.worker.run(lambda: self._prepare(question))

    async def scores(self, question: Question) -> Floats:
        """(rows,) the score of every row."""
        self.refuse_unready()
        return await self.worker.run(lambda: self._score(question))

    async def search(self, request: SearchRequest) -> SearchAnswer:
        """The rows that push towards a completion, and those that push away from it."""
        self.refuse_unready()
        return await self.worker.run(lambda: self._search(request))

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """How the scores of all rows are spread, and those of some."""
        self.refuse_unready()
        self.existing(request.rows)

        def scored() -> ScoreAnswer:
            scores = self._score(request)
            return answers.score(self.index, self._prepare(request).asked, scores, request)

        return await self.worker.run(scored)

    async def tokens(self, request: TokensRequest) -> TokensAnswer:
        """Which tokens carry the influence of some rows."""
        self.refuse_unready()
        self._needed_teacher()
        return await self.worker.run(lambda: self._tokens(request))

    def verify(self, request: VerifyRequest) -> Job:
        """Start to re-check the best candidates with real gradients.

        Raises:
            Problem: there is no decoder, or too many jobs wait.
        """
        self.refuse_unready()
        recheck = Recheck(request.verify, request.certify, request.tokens)
        recheck.refuse_impossible(request.k, self._needed_teacher().settings)
        return self.jobs.start(lambda job: self._search(request, recheck, job))

    def provenance(self) -> Provenance:
        """What is served, and what made it."""
        self.refuse_unready()
        return answers.provenance(self.index, self.decoder)

    # In the worker

    def _prepare(self, question: Question) -> Prepared:
        key = (question.prompt, question.completion, question.query)
        return self._prepared.get(key, lambda: self._asked(question))

    def _asked(self, question: Question) -> Prepared:
        example, own = self._example(question)
        read = None if self.decoder is None else answers.read(show(self.decoder, [example])[0])
        asked = Asked(id=example.id, prompt=example.prompt, completion=example.completion, own_answer=own, read=read)
        features = None
        if self.teacher is not None:
            features = self.teacher.features([example], "query").refuse_rejected([example]).vectors
        return Prepared(asked, example, query_vectors(self.index, [example], features)[0])

    def _example(self, question: Question) -> tuple[Example, bool]:
        """The question, and whether the decoder gave its completion."""
        if question.query is not None:
            if question.query not in self.questions:
                raise not_found(f"no saved question has the id {question.query!r}; GET /api/v1/queries lists them.")
            return self.questions[question.query], False
        prompt, completion = question.prompt or "", question.completion
        if completion is not None and not completion.strip():
            raise Problem(422, "no_completion", "the completion is empty, so there is nothing to attribute.")
        if self.decoder is not None:
            answered = one_question(self.decoder, prompt, completion)
            return answered.example, answered.generated
        if completion is None:
            raise Problem(
                422,
                "no_completion",
                "the completion is missing, and without a decoder nothing here can answer. Give what the model says, "
                "or start the service with --decoder.",
            )
        return Example.question(prompt, completion), False

    def _score(self, question: Question) -> Floats:
        key = (question.prompt, question.completion, question.query)
        whole = open_whole_index(self.index)
        return self._scores.get(key, lambda: whole.scores(self._prepare(question).vector[None])[0])

    def _search(self, request: SearchRequest, recheck: Recheck | None = None, job: Job | None = None) -> SearchAnswer:
        question = self._prepare(request)
        sides = search_both_sides(
            self.index,
            [question.example],
            k=request.k,
            recheck=recheck or Recheck(),
            teacher=self.teacher,
            where=request.where,
            advance=None if job is None else lambda done, total: self.jobs.advance(job, done, total),
        )
        return answers.search(question.asked, *(side[0] for side in sides))

    def _tokens(self, request: TokensRequest) -> TokensAnswer:
        question, rows = self._prepare(request), self.existing(request.rows)
        told = tokens_of_rows(self._needed_teacher(), question.example, examples_of(self.index, rows))
        return TokensAnswer(
            question=question.asked,
            rows=[
                RowTokens(row=row, exact=exact, tokens=list(tokens), answer_tokens=list(of_answer))
                for row, (exact, tokens, of_answer) in zip(rows, told, strict=True)
            ],
        )

    def _needed_teacher(self) -> Teacher:
        if self.teacher is None:
            raise Problem(
                422,
                "no_decoder",
                "real gradients need the decoder that the encoder was distilled from. Start the service with "
                "--decoder.",
            )
        return self.teacher

    def existing(self, rows: Sequence[int]) -> list[int]:
        """Some rows, once it is sure that the index has them.

        Raises:
            Problem: it has not.
        """
        beyond = [row for row in rows if row >= len(self.index)]
        if beyond:
            raise not_found(f"there is no row {beyond[0]}: the index has {len(self.index):,}, counted from 0.")
        return list(rows)
