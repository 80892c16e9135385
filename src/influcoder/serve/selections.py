"""Selections made on the page: a rule over some questions, and marks by hand, which override it."""

import secrets
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from influcoder.data.examples import Example
from influcoder.data.original import row_of
from influcoder.indexes.rows import matching
from influcoder.maths.metrics import percentiles
from influcoder.serve.answers import manifest_of
from influcoder.serve.journal import Action, Journal, Record, now
from influcoder.serve.marked import CODES, NAMES, Marked
from influcoder.serve.masks import Masks
from influcoder.serve.problems import Problem, not_found
from influcoder.serve.wire_selections import (
    Mark,
    MarkedRow,
    MarkedRows,
    MarkRequest,
    Rule,
    SelectionAnswer,
    SelectRequest,
)
from influcoder.verbs.opening import open_whole_index

if TYPE_CHECKING:
    from influcoder.serve.explorer import Explorer


class Selections:
    """The selections of an explorer, kept in its journal."""

    def __init__(self, explorer: "Explorer", journal: Journal) -> None:
        self._explorer, self._journal = explorer, journal
        self._cached: dict[str, Marked] = {}
        self.masks = Masks(explorer, journal)

    async def make(self, request: SelectRequest) -> SelectionAnswer:
        """Make a selection; its questions are scored by the encoder, as `influcoder select --decoder` does.

        Raises:
            Problem, InflucoderError: a question or filter cannot be used.
        """
        questions = [await self._explorer.prepared(question) for question in request.questions]
        scores = None
        if questions:
            index, asked = open_whole_index(self._explorer.index), np.stack([question.vector for question in questions])
            scores = await self._explorer.worker.run(lambda: index.scores(asked.mean(axis=0, keepdims=True))[0])
        texts = [{"prompt": question.asked.prompt, "completion": question.asked.completion} for question in questions]
        body = request.model_dump(mode="json") | {"questions": texts, "marks": []}
        body["rows_asked"] = [row_of(question.example) for question in questions]
        record = Record(secrets.token_hex(8), now(), manifest_of(self._explorer.index), body, scores)
        first = [(mark, self._rows(mark, record)) for mark in request.marks]
        self._journal.add(record)
        for mark, rows in first:
            self._journal.act(record.id, mark.model_dump(mode="json"), rows)
        return self.answer(record.id)

    def all(self) -> list[SelectionAnswer]:
        """Every selection, the oldest first."""
        return [self.answer(name) for name in self._journal.names()]

    def answer(self, name: str) -> SelectionAnswer:
        """A selection."""
        record = self._record(name)
        stale = record.manifest != manifest_of(self._explorer.index)
        marked = None if stale else self.marked(name)
        actions = self._journal.actions(name) if marked is None else list(marked.actions.values())
        rule = record.body["rule"] if marked is None else None if marked.rule is None else marked.rule.model_dump()
        return SelectionAnswer(
            id=name,
            name=record.body["name"],
            created=record.created,
            questions=len(record.body["questions"]),
            rule=None if rule is None else Rule(**rule),
            rest=record.body["rest"],
            actions=len(actions),
            counts=None if marked is None else marked.counts,
            mask=None if marked is None else self.masks.answer(name, marked),
            replay=self._replay(record, None if rule is None else Rule(**rule), actions),
        )

    def marked(self, name: str) -> Marked:
        """A selection after all its actions.

        Raises:
            Problem: there is none, or the index has other rows now.
        """
        record = self._record(name)
        if record.manifest != manifest_of(self._explorer.index):
            raise Problem(
                409,
                "other_rows",
                "rows were added to the index or removed since this selection was made. Select again.",
            )
        version = self._journal.last(name)
        cached = self._cached.get(name)
        if cached is not None and cached.version == version:
            return cached
        if cached is None or cached.version[1] != self._journal.when(name, cached.version[0]):
            cached = Marked.of(record, len(self._explorer.index))
        current = cached.after(self._journal.actions(name, cached.version[0]), version)
        self._cached[name] = current
        return current

    def mark(self, name: str, request: MarkRequest) -> SelectionAnswer:
        """Mark rows by hand."""
        rows = self._rows(request, self.marked(name).record)
        self._journal.act(name, request.model_dump(mode="json"), rows)
        return self.answer(name)

    def rule(self, name: str, rule: Rule) -> SelectionAnswer:
        """Keep rows by another rule; nothing is scored again."""
        if self.marked(name).record.scores is None:
            raise Problem(422, "no_questions", "this selection has no questions whose influence a rule could go by.")
        self._journal.act(name, {"rule": rule.model_dump(mode="json")}, np.empty(0, np.int64))
        return self.answer(name)

    def undo(self, name: str) -> SelectionAnswer:
        """Take the last mark or rule back."""
        self._record(name)
        if not self._journal.undo(name):
            raise Problem(409, "nothing_done", "there is nothing to undo.")
        return self.answer(name)

    def remove(self, name: str) -> None:
        """Remove a selection."""
        self._record(name)
        self._journal.remove(name)
        self._cached.pop(name, None)

    def rows(self, name: str, rows: list[int], mark: Mark | None, offset: int, limit: int) -> MarkedRows:
        """Some rows with score, mark and reason; where none are named, all with this mark, or with any."""
        marked = self.marked(name)
        if rows:
            numbers = np.array(self._explorer.existing(rows), np.int64)
        else:
            numbers = np.flatnonzero(marked.marks == CODES[mark] if mark else marked.marks)
        kept, scores, rule = marked.kept, marked.record.scores, marked.ruled[1]
        ranks = None if scores is None else percentiles(scores)
        answers = [
            MarkedRow(
                row=row,
                mark=NAMES[int(marked.marks[row])],
                kept=bool(kept[row]),
                score=None if scores is None else float(scores[row]),
                percentile=None if ranks is None else float(ranks[row]),
                reason=marked.reason(row, bool(kept[row]), rule),
                note=marked.note(row),
            )
            for row in numbers[offset : offset + limit].tolist()
        ]
        return MarkedRows(matching=len(numbers), rows=answers)

    def recipe(self, name: str) -> SelectRequest:
        """The request that makes the same selection again."""
        record = self._record(name)
        body: dict[str, Any] = {key: value for key, value in record.body.items() if key != "rows_asked"}
        for action in self._journal.actions(name):
            if "rule" in action.body:
                body["rule"] = action.body["rule"]
            else:
                body["marks"] = [*body["marks"], action.body]
        return SelectRequest(**body)

    def questions(self, name: str) -> list[dict[str, Any]]:
        """The questions of a selection, as rows that a verb reads in the same way."""
        body = self._record(name).body
        return body.get("rows_asked") or [row_of(Example.question(**question)) for question in body["questions"]]

    def _record(self, name: str) -> Record:
        record = self._cached[name].record if name in self._cached else self._journal.get(name)
        if record is None:
            raise not_found(f"no selection {name!r}; GET /api/v1/selections lists them.")
        return record

    def _rows(self, request: MarkRequest, record: Record) -> NDArray[np.int64]:
        """The rows that a request marks."""
        if not request.matching:
            return np.array(self._explorer.existing(request.rows), np.int64)
        rows = matching(self._explorer.index, request.where, request.text)
        if request.least is None and request.most is None:
            return rows
        if record.scores is None:
            raise Problem(422, "no_questions", "least and most go by scores, and this selection has no questions.")
        rows = rows[record.scores[rows] >= request.least] if request.least is not None else rows
        return rows[record.scores[rows] <= request.most] if request.most is not None else rows

    def _replay(self, record: Record, rule: Rule | None, actions: list[Action]) -> str:
        """The command that makes it again: `influcoder select` without marks, otherwise a request to this service."""
        by_hand = any("rule" not in action.body for action in actions)
        if rule is not None and not by_hand:
            flag, value = next(iter(rule.model_dump(exclude_none=True).items()))
            settings = self._explorer.settings
            words: list[Any] = ["--index", settings.index, "--queries", "questions.jsonl", f"--{flag}", f"{value:.17g}"]
            if self._explorer.teacher is not None:
                words += ["--decoder", settings.decoder]
                words += ["--adapter", settings.adapter] if settings.adapter else []
                words += ["--checkpoints", *settings.checkpoints] if settings.checkpoints else []
            return shlex.join(["influcoder", "select", *map(str, words), "--output-dir", "selection"])
        return (
            "curl --fail -H 'Content-Type: application/json' --data @recipe.json "
            "http://127.0.0.1:8765/api/v1/selections"
        )
