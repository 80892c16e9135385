"""Rows kept, dropped or set aside on the page: in a selection of the service, made by the first mark."""

import shlex
from collections.abc import Callable
from typing import Any, get_args

import numpy as np

from influcoder.serve.explorer import Explorer
from influcoder.serve.marked import NAMES
from influcoder.serve.prepared import Prepared
from influcoder.serve.problems import Problem
from influcoder.serve.view.address import Address
from influcoder.serve.view.rows import Left
from influcoder.serve.wire_selections import Mark, MarkRequest, SelectionAnswer, SelectRequest

Filtered = Callable[[Address, Prepared | None], Left]
"""the rows that pass the filters of a URL; in the worker"""


class Marking:
    """Marks rows for the page."""

    def __init__(self, explorer: Explorer, filtered: Filtered) -> None:
        self._explorer, self._filtered = explorer, filtered

    async def mark(self, address: Address, form: dict[str, str], prepared: Prepared | None) -> str:
        """Mark what a form says, `set` being a mark and a row, or a mark and "all"; the selection's id.

        Raises:
            Problem: no such mark, row or selection; or more rows than one action may mark.
        """
        kind, _, target = form.get("set", "").partition(" ")
        if kind not in get_args(Mark):
            raise Problem(422, "no_mark", f"expected one of {', '.join(get_args(Mark))}, and a row.")
        if target == "all":
            left = await self._explorer.worker.run(lambda: self._filtered(address, prepared))
            rows = [] if left.mask is None else np.flatnonzero(left.mask).tolist()
            note = "all rows of the filters " + ", ".join(pill.text for pill in left.pills)
        else:
            rows, note = [int(target)] if target.isdecimal() and len(target) < 18 else [], form.get("note", "")
        if not rows:
            raise Problem(422, "no_rows", "no rows to mark: no filter holds, or none passes it.")
        if len(rows) > MOST:
            raise Problem(422, "too_many_rows", f"{len(rows):,} rows pass the filters; at most {MOST:,} at once.")
        request = MarkRequest.model_validate({"mark": kind, "rows": self._explorer.existing(rows), "note": note[:2000]})
        selection = address.selection or await self._new(prepared)
        self._explorer.selections.mark(selection, request)
        return selection

    async def _new(self, prepared: Prepared | None) -> str:
        """A selection for this question; rows without a mark are kept."""
        question = prepared.asked if prepared is not None else None
        name = question.prompt[:80].strip() or question.completion[:80].strip() if question is not None else "rows"
        questions = [] if question is None else [{"prompt": question.prompt, "completion": question.completion}]
        selection = await self._explorer.selections.make(
            SelectRequest.model_validate({"name": name, "questions": questions})
        )
        return selection.id

    def selection_of(self, address: Address) -> tuple[SelectionAnswer | None, dict[int, str]]:
        """The selection of a URL, and the marks of its rows; None and no marks where it is gone or of other rows."""
        if not address.selection:
            return None, {}
        try:
            selection = self._explorer.selections.answer(address.selection)
            marks = self._explorer.selections.marked(address.selection).marks
        except Problem:
            return None, {}
        return selection, {int(row): NAMES[int(marks[row])] for row in np.flatnonzero(marks)}

    def recent(self) -> list[SelectionAnswer]:
        """The selections that were made last, the newest first."""
        return self._explorer.selections.all()[-8:][::-1]


MOST = 100_000
"""rows that are marked at once"""


def prove_command(explorer: Explorer, selection: SelectionAnswer) -> str:
    """The command that trains again without the rows that a selection rejects; "" where it rejects none."""
    if selection.counts is None or not selection.counts.rejected or not selection.questions:
        return ""
    decoder = explorer.settings.decoder or "DECODER"
    words: list[Any] = ["influcoder", "prove", "--index", explorer.settings.index, "--decoder", decoder]
    words += ["--queries", f"selection-{selection.id}-questions.jsonl"]
    words += ["--rows", f"selection-{selection.id}-rejected.json", "--output-dir", "proof"]
    return shlex.join(map(str, words))
