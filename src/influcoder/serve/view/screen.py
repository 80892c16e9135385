"""The whole screen: what each view of a question shows. All but `frame` is computed by the worker."""

import time
from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.indexes.index import Index
from influcoder.maths.arrays import Floats
from influcoder.model.decoder import Decoder
from influcoder.provenance import flat
from influcoder.recent import Recent
from influcoder.report.sentences import agreement_sentence
from influcoder.serve.explorer import Explorer
from influcoder.serve.jobs import Job
from influcoder.serve.prepared import Prepared
from influcoder.serve.problems import Problem
from influcoder.serve.ranking import KEPT_RANKINGS
from influcoder.serve.view import methods, rows, spread
from influcoder.serve.view.address import SORTS, VIEWS, Address
from influcoder.serve.view.answers import Answer, Answers
from influcoder.serve.view.cards import Cards
from influcoder.serve.view.concentration import curve
from influcoder.serve.view.exact import Exact
from influcoder.serve.view.frame import held_out, measured
from influcoder.serve.view.marking import Marking, prove_command
from influcoder.serve.view.methods import Words
from influcoder.serve.view.pool import PoolPicture
from influcoder.serve.view.question_set import MOST_QUESTIONS, QuestionSet, budget_of
from influcoder.serve.view.sides import sides_of_scores, sides_of_search

AT_ONCE = 50_000
"""rows of a pool that is scored before the page is shown; of a larger one the ends of the ranking come first"""
WAITS = 0.15
"""seconds that a page waits for the pool's picture to be ready"""


class Screen:
    """What is served, as the page shows it.

    Attributes:
        pool: None where the rows are in LanceDB.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.answers = Answers(explorer)
        index = explorer.index
        self.pool = PoolPicture(index) if isinstance(index, Index) else None
        self.words = Words(index) if isinstance(index, Index) else None
        self.marking = Marking(explorer, self._left)
        self._sets: Recent[QuestionSet] = Recent(1)
        self._drawn: Recent[dict[str, Any]] = Recent(KEPT_RANKINGS)
        self._trust: dict[str, float] = {}
        self._began = time.monotonic()

    def frame(self, address: Address) -> dict[str, Any]:
        """What every page has, whatever it shows; nothing here takes time."""
        explorer = self.explorer
        ready = explorer.ready
        views = {name: title for name, title in VIEWS.items() if self.pool or name == "sides"}
        if not explorer.questions:
            views.pop("set", None)
        context: dict[str, Any] = {
            "address": address,
            "asked": explorer.questions.get(address.query, address),
            "views": views,
            "rows": len(explorer.index),
            "index_name": "/".join(explorer.index.folder.resolve().parts[-2:]),
            "saved": list(explorer.questions.values()),
            "loading": None if ready else round(time.monotonic() - self._began),
            "wants_decoder": explorer.settings.decoder is not None,
            "pool": self.pool,
            "sorts": SORTS,
            "expected": self._trust,
        }
        if ready:
            provenance = explorer.provenance()
            context |= {
                "decoder": _last(explorer.decoder),
                "answering": _last(explorer.answering),
                "provenance": provenance,
                "provenance_rows": [pair for pair in flat(provenance.made_by) if pair[1] not in (None, [])],
                "agreement": held_out(explorer),
                "measured": measured(explorer),
                "stale": explorer.changed,
            }
        return context

    def job(self, address: Address) -> Job | None:
        """The re-check that a URL names; None where it is forgotten."""
        try:
            return self.explorer.jobs.get(address.job) if address.job else None
        except Problem:
            return None

    def _left(self, address: Address, prepared: Prepared | None) -> rows.Left:
        """The rows that pass the filters of a URL, for marking all of them."""
        if self.pool is None:
            raise ConfigError("the rows are in LanceDB: mark them one by one.")
        marks = self.marking.selection_of(address)[1]
        return rows.filtered(address, None if prepared is None else self.answers.of(prepared), self.pool, marks)

    def shown(self, address: Address, answer: Answer | None) -> dict[str, Any]:
        """What the view of a URL shows."""
        context: dict[str, Any] = {"answer": answer, "expected": self._expected()}
        context["selection"], marks = self.marking.selection_of(address)
        if context["selection"] is not None:
            context["prove"] = prove_command(self.explorer, context["selection"])
        else:
            context["selections"] = self.marking.recent()
        if answer is not None and answer.trust is not None:
            context["trust"] = agreement_sentence(answer.trust)
        exact = Exact() if answer is None else Exact.of(address, answer, self.job(address))
        context["bounds"] = exact.bounds
        cards = Cards(answer, self.explorer.index, self.pool, self.explorer.decoder, marks, exact)
        if self.pool is None:
            return context | self._of_lance(cards, answer, address)
        self.pool.begin(self.explorer)
        self.pool.wait(WAITS)
        if address.view == "set" and self.explorer.questions:
            return context | self._question_set(Cards(None, self.pool.index, None, None, marks), address, self.pool)
        if answer is None and address.view in ("sides", "methods"):
            return context
        large = len(self.pool.index) > AT_ONCE and not address.where and address.view == "sides"
        if answer is not None and large and not answer.ranking.is_known:
            none = rows.Left([], None, len(self.pool.index))
            sides = sides_of_search(cards, answer, self.pool.index, address.shown)
            return context | sides | {"left": none, "spread_later": True}
        left = rows.filtered(address, answer, self.pool, marks)
        context |= {"left": left}
        match address.view:
            case "sides" if answer is not None:
                context |= sides_of_scores(cards, answer, left, address.shown)
            case "methods" if answer is not None and self.words is not None:
                context |= self._methods(cards, answer, self.words)
            case "map" if self.pool.regions is not None:
                context |= {"region_rows": spread.region_rows(self.pool.regions, answer)}
            case "rows":
                numbers, pages = rows.page_of(address, answer, left, self.pool)
                shown = cards.of(numbers, *rows.scores_of(answer, numbers))
                context |= {"cards": shown, "pages": pages, "current": min(address.page, pages)}
        if answer is not None:
            scores = [card.score for name in ("proponents", "opponents", "cards") for card in context.get(name, [])]
            context |= self._spread_of(answer, self.pool, scores)
        return context

    def spread_alone(self, address: Address, answer: Answer | None) -> dict[str, Any]:
        """The right-hand side of a question."""
        if self.pool is None or answer is None:
            return {}
        ends = rows.ends(answer, rows.Left([], None, len(answer.scores)), address.shown)
        shown = answer.scores[np.concatenate(ends)].tolist()
        return {"answer": answer} | self._spread_of(answer, self.pool, shown)

    def points(self, address: Address, answer: Answer | None, most: int) -> dict[str, NDArray[Any]]:
        """The map: row, x, y, region and score of each point, those that act most strongly among them.

        Raises:
            ConfigError: it is not drawn yet, or the rows are in LanceDB.
        """
        pool = self.pool
        if pool is None or pool.places is None or pool.regions is None:
            raise ConfigError("the map is not drawn yet. Ask again in a few seconds.")
        left = rows.filtered(address, answer, pool, {})
        chosen = np.arange(len(pool.index)) if left.mask is None else np.flatnonzero(left.mask)
        if len(chosen) > most:
            sample = np.random.default_rng(0).choice(chosen, most, replace=False)
            ends = np.empty(0, np.int64) if answer is None else np.concatenate(rows.ends(answer, left, most // 20))
            chosen = np.unique(np.concatenate([sample, ends]))
        scores = np.zeros(len(chosen), np.float32) if answer is None else answer.scores[chosen]
        x, y = pool.places[chosen].T
        return {"row": chosen, "x": x, "y": y, "region": pool.regions.of_row[chosen], "score": scores}

    def _of_lance(self, cards: Cards, answer: Answer | None, address: Address) -> dict[str, Any]:
        """What is shown of rows in LanceDB, where filters read metadata only and not all rows are scored."""
        if answer is None:
            return {}
        pills = [rows.Pill(condition, condition, None) for condition in address.where]
        left = rows.Left(pills, None, len(self.explorer.index))
        where = ",".join(address.where) or None
        return {"left": left} | sides_of_search(cards, answer, self.explorer.index, address.shown, where)

    def _methods(self, cards: Cards, answer: Answer, words: Words) -> dict[str, Any]:
        columns, pairs = methods.compare(answer, cards.exact.scores, words)
        numbers = np.array(sorted({row for column in columns for row in column.rows}), np.int64)
        shown = cards.of(numbers, *rows.scores_of(answer, numbers))
        return {"columns": columns, "pairs": pairs, "by_row": {card.number: card for card in shown}}

    def _question_set(self, cards: Cards, address: Address, pool: PoolPicture) -> dict[str, Any]:
        questions = list(self.explorer.questions.values())
        question_set = self._sets.get(tuple(self.explorer.questions), lambda: QuestionSet.of(pool.index, questions))
        budget = budget_of(question_set, address.by, address.budget, pool)
        left = rows.filtered(address, None, pool, cards.marks)
        order = question_set.orders[address.by]
        order = order if left.mask is None else order[left.mask[order]]
        pages = max(1, -(-len(order) // rows.PAGE))
        start = (min(address.page, pages) - 1) * rows.PAGE
        numbers = order[start : start + rows.PAGE]
        summed = question_set.scores(address.by)
        shown = cards.of(numbers, summed[numbers], np.arange(start + 1, start + 1 + len(numbers)))
        return {
            "question_set": question_set,
            "budget": budget,
            "cards": shown,
            "by_question": question_set.of_rows(pool.index, numbers).T.tolist() if len(numbers) else [],
            "pages": pages,
            "current": min(address.page, pages),
            "left": left,
        } | self._spread((address.by, *self.explorer.questions), summed, None, pool, [card.score for card in shown])

    def _spread_of(self, answer: Answer, pool: PoolPicture, shown: list[float]) -> dict[str, Any]:
        return self._spread((answer.prompt, answer.completion), answer.scores, answer.band(pool), pool, shown)

    def _spread(
        self, key: Hashable, scores: Floats, band: tuple[float, float] | None, pool: PoolPicture, shown: list[float]
    ) -> dict[str, Any]:
        """How scores are spread; all but the marks of the rows shown is computed once a question."""

        def drawn() -> dict[str, Any]:
            figures: dict[str, Any] = {"histogram": spread.histogram(scores, band), "curve": curve(scores)}
            return figures if pool.slices is None else figures | {"slices": spread.slices(pool.slices, scores)}

        figures = self._drawn.get((key, band, pool.slices is None), drawn)
        return figures | {"histogram": figures["histogram"].marked(shown)}

    def _expected(self) -> dict[str, float]:
        """The expected agreement of each saved question with the teacher, by its id, where the encoder knows it."""
        trust = self.explorer.index.encoder.trust.get("text")
        if trust is None or not self.explorer.questions:
            return {}
        questions = list(self.explorer.questions.values())[:MOST_QUESTIONS]
        if self._trust.keys() != {question.id for question in questions}:
            expected = trust.expect(self.explorer.index.encoder.encode_query(questions))[:, 0]
            self._trust = {question.id: float(rho) for question, rho in zip(questions, expected, strict=True)}
        return self._trust


def _last(decoder: Decoder | None) -> str | None:
    """A decoder's name: the last two parts of a path, since the last is often a generic word."""
    return None if decoder is None else "/".join(decoder.name.rstrip("/").split("/")[-2:])
