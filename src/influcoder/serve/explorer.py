"""What is served: an index with its encoder, and the decoder if one was given; opened once and asked by the worker.

Every method answers with a model of `influcoder.serve.wire`; the REST API sends it as JSON, the page puts it into a
template. What computes is awaited, and done by the worker.
"""

from collections.abc import Sequence
from typing import Any

from influcoder.attribution.hits import Hits
from influcoder.attribution.search import search_both_sides
from influcoder.data.examples import Example
from influcoder.indexes.index import Index
from influcoder.indexes.lance import LanceIndex
from influcoder.model.decoder import Decoder
from influcoder.serve.problems import Problem, busy, not_found
from influcoder.serve.settings import ServeSettings
from influcoder.serve.wire import Agreement, Asked, Hit, Provenance, Question, Row, SearchAnswer, SearchRequest
from influcoder.serve.worker import Worker
from influcoder.student.encoder_folder import teacher_of
from influcoder.teachers.teacher import Teacher
from influcoder.verbs.opening import open_any_index, open_checkpoints, read_rows
from influcoder.verbs.questions import one_question
from influcoder.version import __version__


class Explorer:
    """An index that is served.

    Attributes:
        settings: what was asked to be served.
        index: whose rows these are.
        decoder, teacher: None where no decoder was given.
        questions: the saved ones, by id.
        worker: the thread that computes.
        ready: whether all is loaded.
        failed: what went wrong while it was loaded.

    Raises:
        StoreError: not an index, or a damaged one.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self.index: Index | LanceIndex = open_any_index(settings.index)[0]
        self.decoder: Decoder | None = None
        self.teacher: Teacher | None = None
        self.questions: dict[str, Example] = {one.id: one for one in _saved(settings.queries)}
        self.worker = Worker()
        self.ready = False
        self.failed: Exception | None = None

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

    def refuse_unready(self) -> None:
        """Answer that the model is being loaded, as long as it is.

        Raises:
            Problem: it is.
        """
        if not self.ready:
            raise busy("the encoder or the decoder is still being loaded.", 2, 503)

    async def search(self, asked: SearchRequest) -> SearchAnswer:
        """The rows that push towards a completion, and those that push away from it."""
        self.refuse_unready()
        return await self.worker.run(lambda: self._search(asked))

    def _search(self, asked: SearchRequest) -> SearchAnswer:
        question = self.question(asked)
        example = Example.question(question.prompt, question.completion, id=question.id)
        sides = search_both_sides(self.index, [example], k=asked.k, teacher=self.teacher, where=asked.where)
        proponents, opponents = (side[0] for side in sides)
        return SearchAnswer(
            question=question,
            proponents=hits_of(proponents),
            opponents=hits_of(opponents),
            expected_agreement=_agreement(proponents),
        )

    def question(self, asked: Question) -> Asked:
        """The question with its completion: as given, or the decoder's own answer. In the worker.

        Raises:
            Problem: there is no such saved question, or no completion and no decoder that could give one.
        """
        if asked.query is not None:
            saved = self.questions.get(asked.query)
            if saved is None:
                raise not_found(f"no saved question has the id {asked.query!r}; GET /api/v1/queries lists them.")
            return Asked(id=saved.id, prompt=saved.prompt, completion=saved.completion, own_answer=False)
        if self.decoder is None and asked.completion is None:
            raise Problem(
                422,
                "no_completion",
                "the completion is missing, and without a decoder nothing here can answer. Give what the model says, "
                "or start the service with --decoder.",
            )
        prompt, completion = asked.prompt or "", asked.completion
        if self.decoder is None:
            return Asked(id="query", prompt=prompt, completion=completion or "", own_answer=False)
        answered = one_question(self.decoder, prompt, completion)
        return Asked(id="query", prompt=prompt, completion=answered.example.completion, own_answer=answered.generated)

    def provenance(self) -> Provenance:
        """What is served, and what made it."""
        index, encoder = self.index, self.index.encoder
        whole = isinstance(index, Index)
        manifest = index.store.manifest["sha256"] if isinstance(index, Index) else index.record["manifest"]
        return Provenance(
            version=__version__,
            rows=len(index),
            dim=index.dim,
            index=index.folder.resolve().name,
            manifest=manifest,
            encoder=encoder.fingerprint,
            tier=encoder.tier,
            lance=not whole,
            decoder=None if self.decoder is None else self.decoder.name,
            made_by=encoder.provenance.json(),
            measured=encoder.measured,
            filterable=index.filterable,
        )


def hits_of(hits: Hits) -> list[Hit]:
    """Hits as they go over the wire."""
    return [Hit(**_row(hit.row, hit.example), rank=hit.rank, score=hit.score, exact=hit.exact) for hit in hits]


def row_of(row: int, example: Example) -> Row:
    """A row as it goes over the wire."""
    return Row(**_row(row, example))


def _row(row: int, example: Example) -> dict[str, Any]:
    return {
        "row": row,
        "id": example.id,
        "prompt": example.prompt,
        "completion": example.completion,
        "turns": list(example.turns),
        "metadata": dict(example.metadata),
    }


def _agreement(hits: Hits) -> Agreement | None:
    if hits.trust is None:
        return None
    rho, low, high = hits.trust
    return Agreement(rho=rho, low=low, high=high)


def _saved(files: Sequence[str]) -> list[Example]:
    return [example for file in files for example in read_rows(file, "queries")]
