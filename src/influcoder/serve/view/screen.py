"""The whole screen: what each view of a question shows. All but `frame` is worked out by the worker."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from influcoder.errors import ConfigError
from influcoder.indexes.index import Index
from influcoder.report.sentences import agreement_sentence
from influcoder.serve.explorer import Explorer
from influcoder.serve.view import methods, rows, spread
from influcoder.serve.view.address import SORTS, VIEWS, Address
from influcoder.serve.view.answers import Answer, Answers
from influcoder.serve.view.cards import FETCHED, Cards
from influcoder.serve.view.frame import Freshness, flat, held_out, measured
from influcoder.serve.view.methods import Words
from influcoder.serve.view.pool import PoolPicture
from influcoder.serve.view.question_set import MOST_QUESTIONS, QuestionSet, budget_of

AT_ONCE = 50_000
"""rows of a pool that is scored whole before the page is shown; of a larger one the ends of the ranking come first"""
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
        self._set: QuestionSet | None = None
        self._trust: dict[str, float] | None = None
        self._freshness = Freshness(explorer)
        self._began = time.monotonic()

    def frame(self, address: Address) -> dict[str, Any]:
        """What every page has, whatever is shown in it; nothing here takes time."""
        explorer = self.explorer
        ready = explorer.ready
        views = {name: told for name, told in VIEWS.items() if self.pool or name == "sides"}
        if not explorer.questions:
            views.pop("set", None)
        held: dict[str, Any] = {
            "address": address,
            "views": views,
            "rows": len(explorer.index),
            "index_name": explorer.index.folder.resolve().name,
            "saved": list(explorer.questions.values()),
            "loading": None if ready else round(time.monotonic() - self._began),
            "wants_decoder": explorer.settings.decoder is not None,
            "pool": self.pool,
            "sorts": SORTS,
            "expected": self._trust or {},
        }
        if ready:
            provenance = explorer.provenance()
            held |= {
                "decoder": explorer.decoder.name if explorer.decoder else None,
                "provenance": provenance,
                "provenance_rows": list(flat(provenance.made_by)),
                "agreement": held_out(explorer),
                "measured": measured(explorer),
                "stale": self._freshness.stale,
            }
        return held

    def shown(self, address: Address) -> dict[str, Any]:
        """What the view of a URL shows."""
        if self.pool is not None:
            self.pool.begin()
            self.pool.wait(WAITS)
        return {"expected": self._expected()} | self._view(address)

    def _view(self, address: Address) -> dict[str, Any]:
        if address.view == "set" and self.explorer.questions and self.pool is not None:
            return self._question_set(address, self.pool)
        answer = self.answers.of(address) if address.asks else None
        found: dict[str, Any] = {"answer": answer}
        if answer is not None and answer.trust is not None:
            found["trust"] = agreement_sentence(answer.trust)
        if self.pool is None:
            return found | self._sides_of_lance(answer, address)
        at_once = len(self.pool.index) <= AT_ONCE or bool(address.where) or address.view != "sides"
        if answer is None and address.view in ("sides", "methods"):
            return found
        if answer is not None and not at_once:
            return found | self._sides_of_large(answer, self.pool, address) | {"spread_later": True}
        left = rows.filtered(address, answer, self.pool, {})
        found |= {"left": left}
        match address.view:
            case "sides" if answer is not None:
                found |= self._sides(answer, self.pool, left, address.shown)
            case "methods" if answer is not None and self.words is not None:
                found |= self._methods(answer, self.pool)
            case "map" if self.pool.regions is not None:
                found |= {"region_rows": spread.region_rows(self.pool.regions, answer)}
            case "rows":
                numbers, pages = rows.page_of(address, answer, left, self.pool)
                cards = self._cards(answer).of(numbers, *rows.scores_of(answer, numbers))
                found |= {"cards": cards, "pages": pages, "current": min(address.page, pages)}
        if answer is not None:
            shown = [card.score for name in ("proponents", "opponents", "cards") for card in found.get(name, [])]
            found |= self._spread(answer, self.pool, shown)
        return found

    def spread_alone(self, address: Address) -> dict[str, Any]:
        """The right-hand side of a question."""
        if self.pool is None or not address.asks:
            return {}
        answer = self.answers.of(address)
        ends = [*answer.order[: address.shown], *answer.order[::-1][: address.shown]]
        return {"answer": answer} | self._spread(answer, self.pool, [float(answer.scores[row]) for row in ends])

    def points(self, address: Address, most: int) -> dict[str, NDArray[Any]]:
        """The map: row, x, y, region and score of each point, those that act most strongly among them.

        Raises:
            ConfigError: it is not drawn yet, or the rows are in LanceDB.
        """
        pool = self.pool
        if pool is None or pool.places is None or pool.regions is None:
            raise ConfigError("the map is not drawn yet. Ask again in a few seconds.")
        answer = self.answers.of(address) if address.asks else None
        left = rows.filtered(address, answer, pool, {})
        chosen = np.arange(len(pool.index)) if left.mask is None else np.flatnonzero(left.mask)
        if len(chosen) > most:
            rest = np.random.default_rng(0).choice(chosen, most, replace=False)
            ends = np.empty(0, np.int64) if answer is None else np.concatenate(rows.ends(answer, left, most // 20))
            chosen = np.unique(np.concatenate([rest, ends]))
        scores = np.zeros(len(chosen), np.float32) if answer is None else answer.scores[chosen]
        x, y = pool.places[chosen].T
        return {"row": chosen, "x": x, "y": y, "region": pool.regions.of_row[chosen], "score": scores}

    def _sides(self, answer: Answer, pool: PoolPicture, left: rows.Left, shown: int) -> dict[str, Any]:
        cards, found = self._cards(answer), {}
        # A row stands on one side alone, also where few are left.
        towards = int((answer.scores > 0).sum() if left.mask is None else (answer.scores[left.mask] > 0).sum())
        limits = {"proponents": max(towards, left.count - left.count // 2), "opponents": left.count}
        seen: set[int] = set()
        for side, numbers in zip(limits, rows.ends(answer, left, FETCHED * shown), strict=True):
            wanted = [int(row) for row in numbers[: limits[side]] if int(row) not in seen]
            seen.update(wanted[:shown])
            chosen = np.array(wanted, np.int64)
            found[side] = cards.folded(chosen, answer.scores[chosen], answer.ranks[chosen], shown)
        return found

    def _sides_of_large(self, answer: Answer, pool: PoolPicture, address: Address) -> dict[str, Any]:
        """The ends of the ranking of a large pool, by the index's own search."""
        cards, count, rows_all = self._cards(answer), FETCHED * address.shown, len(pool.index)
        found: dict[str, Any] = {"left": rows.filtered(address, answer, pool, {})}
        for side, opponents in (("proponents", False), ("opponents", True)):
            hits = pool.index.search(answer.vector[None], count, opponents=opponents)
            ranks = np.arange(1, len(hits.rows[0]) + 1)
            ranks = rows_all + 1 - ranks if opponents else ranks
            found[side] = cards.folded(hits.rows[0], hits.scores[0], ranks, address.shown)
        return found

    def _sides_of_lance(self, answer: Answer | None, address: Address) -> dict[str, Any]:
        """The same of rows in LanceDB; filters are of metadata alone there."""
        if answer is None:
            return {}
        index, found = self.explorer.index, {}
        where = ",".join(address.where) or None
        for side, opponents in (("proponents", False), ("opponents", True)):
            hits = index.search(answer.vector[None], FETCHED * address.shown, opponents=opponents, where=where)
            ranks = np.arange(1, len(hits.rows[0]) + 1)
            ranks = len(index) + 1 - ranks if opponents else ranks
            found[side] = self._cards(answer).folded(hits.rows[0], hits.scores[0], ranks, address.shown)
        pills = [rows.Pill(one, one, None) for one in address.where]
        return found | {"left": rows.Left(pills, None, len(index))}

    def _methods(self, answer: Answer, pool: PoolPicture) -> dict[str, Any]:
        assert self.words is not None
        columns, pairs = methods.compare(answer, self.words)
        numbers = np.array(sorted({row for column in columns for row in column.rows}), np.int64)
        cards = self._cards(answer).of(numbers, *rows.scores_of(answer, numbers))
        return {"columns": columns, "pairs": pairs, "by_row": {card.number: card for card in cards}}

    def _question_set(self, address: Address, pool: PoolPicture) -> dict[str, Any]:
        if self._set is None:
            self._set = QuestionSet.of(pool.index, list(self.explorer.questions.values()))
        found = self._set
        budget = budget_of(found, address.by, address.budget, pool)
        left = rows.filtered(address, None, pool, {})
        order = found.orders[address.by]
        order = order if left.mask is None else order[left.mask[order]]
        pages = max(1, -(-len(order) // rows.PAGE))
        start = (min(address.page, pages) - 1) * rows.PAGE
        numbers = order[start : start + rows.PAGE]
        summed = found.scores(address.by)
        cards = self._cards(None).of(numbers, summed[numbers], np.arange(start + 1, start + 1 + len(numbers)))
        return {
            "question_set": found,
            "budget": budget,
            "cards": cards,
            "by_question": found.of_rows(pool.index, numbers).T.tolist() if len(numbers) else [],
            "pages": pages,
            "current": min(address.page, pages),
            "left": left,
        } | self._spread_of(summed, None, pool, [card.score for card in cards])

    def _spread(self, answer: Answer, pool: PoolPicture, shown: list[float]) -> dict[str, Any]:
        return self._spread_of(answer.scores, answer.band(pool), pool, shown)

    def _spread_of(
        self, scores: Any, band: tuple[float, float] | None, pool: PoolPicture, shown: list[float]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"histogram": spread.histogram(scores, band, shown), "curve": spread.curve(scores)}
        if not pool.doing:
            found["slices"] = spread.slices(pool.slices(), scores)
        return found

    def _cards(self, answer: Answer | None) -> Cards:
        return Cards(answer, self.explorer.index, self.pool, self.explorer.decoder)

    def _expected(self) -> dict[str, float]:
        """The expected agreement of each saved question with the teacher, by its id, where the encoder knows it."""
        known = self.explorer.index.encoder.trust.get("text")
        if known is None or not self.explorer.questions:
            return {}
        if self._trust is None:
            asked = list(self.explorer.questions.values())[:MOST_QUESTIONS]
            expected = known.expect(self.explorer.index.encoder.encode_query(asked))[:, 0]
            self._trust = {one.id: float(rho) for one, rho in zip(asked, expected, strict=True)}
        return self._trust
