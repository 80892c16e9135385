"""What is served: an index with its encoder, and the decoder if there is one; opened once, used by the worker.

Every method answers with a model of `influcoder.serve.wire`; the REST API sends it as JSON, the page puts it into a
template. Methods that compute are awaited; the worker runs them.
"""

import threading
from collections.abc import Sequence

import numpy as np

from influcoder.attribution.hits import Hits
from influcoder.attribution.recheck import Recheck
from influcoder.attribution.search import search_both_sides, search_vectors
from influcoder.attribution.tokens import tokens_of_rows
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.indexes.lance import RECORD, LanceIndex
from influcoder.model.decoder import Decoder
from influcoder.recent import Recent
from influcoder.serve import answers
from influcoder.serve.jobs import Job, Jobs
from influcoder.serve.journal import Journal
from influcoder.serve.prepared import AskedQuestions, Prepared
from influcoder.serve.problems import Problem, busy, not_found
from influcoder.serve.ranking import KEPT_RANKINGS, Ranking
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
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.opening import open_any_index, open_decoder, open_teacher, read_rows


class Explorer:
    """An index that is served.

    Attributes:
        settings: what to serve.
        index: the pool's rows and vectors.
        decoder, teacher: None where no decoder was given.
        answering: the decoder that answers prompts: the same one, or another.
        questions: the saved ones, by id.
        journal, selections: selections and questions that are made here and kept.
        worker: the thread that computes.
        jobs: long work.
        ready: whether all is loaded.
        failed: the error that ended the loading.

    Raises:
        StoreError: not an index, or a damaged one.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.index: Index | LanceIndex = open_any_index(settings.index)[0]
        self._opened_from = self._on_disk()
        self.decoder: Decoder | None = None
        self.teacher: Teacher | None = None
        self.answering: Decoder | None = None
        self.journal = Journal(settings.state)
        self.selections = Selections(self, self.journal)
        self.questions = {example.id: example for file in settings.queries for example in read_rows(file, "queries")}
        self.questions |= {id: Example.question(*texts, id=id) for id, *texts in self.journal.questions()}
        self.worker = Worker()
        self.jobs = Jobs(self.worker)
        self.ready = False
        self.failed: Exception | None = None
        self._asked_questions = AskedQuestions(self)
        self._rankings: Recent[Ranking] = Recent(KEPT_RANKINGS)

    def load(self) -> None:
        """Load encoder and decoder, in the worker; until then the service answers that it is loading."""
        settings = self.settings
        _, self.decoder = open_any_index(
            self.index, settings.decoder, settings.adapter, checkpoints=settings.checkpoints
        )
        if self.decoder is not None:
            self.teacher = open_teacher(self.index.encoder, self.decoder, settings.checkpoints)
        self.answering = self.decoder
        if settings.answers_from is not None:
            self.answering = open_decoder(settings.answers_from, None, self.index.encoder.provenance)
        self.index.encoder.encode_query([Example.question("a first question", "loads what is loaded late")])
        self.ready = True
        if isinstance(self.index, Index):
            threading.Thread(target=self.index.texts.lay_out, args=(settings.state,), daemon=True).start()

    @property
    def changed(self) -> bool:
        """Whether the index has been changed on the disk since it was opened."""
        return self._on_disk() != self._opened_from

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            status = (self.index.folder / (RECORD if isinstance(self.index, LanceIndex) else "manifest.json")).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def refuse_unready(self) -> None:
        """Refuse to answer from an index that cannot be used now.

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
        return await self.worker.run(lambda: self.prepare(question))

    def ranking(self, prepared: Prepared) -> Ranking:
        """The scores of all rows, computed at their first use; in the worker."""
        question = prepared.asked
        key = (question.id, question.prompt, question.completion)
        return self._rankings.get(key, lambda: Ranking(self.index, prepared.vector))

    async def search(self, request: SearchRequest) -> SearchAnswer:
        """The rows that push towards a completion, and those that push away from it."""
        self.refuse_unready()
        return await self.worker.run_together(request.where, request, self._search)

    async def score(self, request: ScoreRequest) -> ScoreAnswer:
        """How the scores of all rows are spread, and those of some."""
        self.refuse_unready()
        self.existing(request.rows)

        def scored() -> ScoreAnswer:
            prepared = self.prepare(request)
            return answers.score(self.index, prepared.asked, self.ranking(prepared), request)

        return await self.worker.run(scored)

    async def tokens(self, request: TokensRequest) -> TokensAnswer:
        """Which tokens carry the influence of some rows."""
        self.refuse_unready()
        self.needed_teacher()
        return await self.worker.run(lambda: self._tokens(request))

    def verify(self, request: VerifyRequest) -> Job:
        """Start to re-check the best candidates with real gradients.

        Raises:
            Problem: there is no decoder, or too many jobs wait.
        """
        self.refuse_unready()
        recheck = Recheck(request.verify, request.certify, request.tokens)
        recheck.refuse_impossible(request.k, self.needed_teacher().settings)
        return self.jobs.start(lambda job: self._rechecked(request, recheck, job))

    def provenance(self) -> Provenance:
        """What is served, and what made it."""
        return answers.provenance(self.index, self.decoder, self.answering)

    # In the worker

    def prepare(self, question: Question) -> Prepared:
        """The question with its vector."""
        return self._asked_questions.prepared([question])[0]

    def _search(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        """Answers to searches with the same filter: the index is read once for all."""
        questions, k = self._asked_questions.prepared(requests), max(request.k for request in requests)
        vectors = np.stack([question.vector for question in questions])
        examples, trust = [question.example for question in questions], [question.trust for question in questions]
        pairs = zip(*search_vectors(self.index, examples, vectors, trust, k=k, where=requests[0].where), strict=True)
        return [
            answers.search(question.asked, *(Hits(hits[: request.k], question.trust) for hits in pair))
            for question, request, pair in zip(questions, requests, pairs, strict=True)
        ]

    def _rechecked(self, request: VerifyRequest, recheck: Recheck, job: Job) -> SearchAnswer:
        question = self.prepare(request)
        sides = search_both_sides(
            self.index,
            [question.example],
            k=request.k,
            recheck=recheck,
            teacher=self.teacher,
            where=request.where,
            advance=lambda done, total: self.jobs.advance(job, done, total),
        )
        return answers.search(question.asked, *(side[0] for side in sides))

    def _tokens(self, request: TokensRequest) -> TokensAnswer:
        question, rows = self.prepare(request), self.existing(request.rows)
        results = tokens_of_rows(self.needed_teacher(), question.example, self.index.examples_at(rows))
        return TokensAnswer(
            question=question.asked,
            rows=[
                RowTokens(row=row, exact=exact, tokens=list(tokens), answer_tokens=list(of_answer))
                for row, (exact, tokens, of_answer) in zip(rows, results, strict=True)
            ],
        )

    def needed_teacher(self) -> Teacher:
        """The teacher, which takes real gradients.

        Raises:
            Problem: no decoder was given.
        """
        if self.teacher is None:
            raise Problem(
                422,
                "no_decoder",
                "real gradients need the decoder that the encoder was distilled from. Start the service with "
                "--decoder.",
            )
        return self.teacher

    def existing(self, rows: Sequence[int]) -> list[int]:
        """Some rows, after checking that the index has them.

        Raises:
            Problem: it does not.
        """
        beyond = [row for row in rows if row >= len(self.index)]
        if beyond:
            raise not_found(f"there is no row {beyond[0]}: the index has {len(self.index):,}, counted from 0.")
        return list(rows)
