"""What is served: an index with its encoder, and the decoder if one was given; opened once and asked by the worker.

Every method answers with a model of `influcoder.serve.wire`; the REST API sends it as JSON, the page puts it into a
template. What computes is awaited, and done by the worker.
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
from influcoder.serve.ranking import KEPT, Ranking
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
from influcoder.verbs.opening import open_any_index, open_checkpoints, open_decoder, read_rows


class Explorer:
    """An index that is served.

    Attributes:
        settings: what was asked to be served.
        index: whose rows these are.
        decoder, teacher: None where no decoder was given.
        answering: the decoder that answers prompts: the same one, or another.
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
        self.answering: Decoder | None = None
        self.journal = Journal(settings.state)
        self.selections = Selections(self, self.journal)
        self.questions = {one.id: one for file in settings.queries for one in read_rows(file, "queries")}
        self.questions |= {id: Example.question(*told, id=id) for id, *told in self.journal.questions()}
        self.worker = Worker()
        self.jobs = Jobs(self.worker)
        self.ready = False
        self.failed: Exception | None = None
        self._asked = AskedQuestions(self)
        self._rankings: Recent[Ranking] = Recent(KEPT)

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
        return await self.worker.run(lambda: self.prepare(question))

    def ranking(self, prepared: Prepared) -> Ranking:
        """The scores of all rows, which are worked out when they are first asked for; by the worker."""
        asked = prepared.asked
        key = (asked.id, asked.prompt, asked.completion)
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
        self.refuse_unready()
        return answers.provenance(self.index, self.decoder, self.answering)

    # In the worker

    def prepare(self, question: Question) -> Prepared:
        """The question with its vector, where the worker asks."""
        return self._asked.prepared([question])[0]

    def _search(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        """Answers to searches with the same filter: the index is read once for all."""
        asked, k = self._asked.prepared(requests), max(request.k for request in requests)
        examples, vectors = [one.example for one in asked], np.stack([one.vector for one in asked])
        trust = [one.trust for one in asked]
        sides = search_vectors(self.index, examples, vectors, trust, k=k, where=requests[0].where)
        return [
            answers.search(one.asked, *(Hits(side[place][: requests[place].k], one.trust) for side in sides))
            for place, one in enumerate(asked)
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
        told = tokens_of_rows(self.needed_teacher(), question.example, self.index.examples_at(rows))
        return TokensAnswer(
            question=question.asked,
            rows=[
                RowTokens(row=row, exact=exact, tokens=list(tokens), answer_tokens=list(of_answer))
                for row, (exact, tokens, of_answer) in zip(rows, told, strict=True)
            ],
        )

    def needed_teacher(self) -> Teacher:
        """What takes real gradients.

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
        """Some rows, once it is sure that the index has them.

        Raises:
            Problem: it has not.
        """
        beyond = [row for row in rows if row >= len(self.index)]
        if beyond:
            raise not_found(f"there is no row {beyond[0]}: the index has {len(self.index):,}, counted from 0.")
        return list(rows)
