"""A selection after all its actions."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from influcoder.attribution.selection import Selection
from influcoder.maths.arrays import Floats
from influcoder.maths.metrics import percentiles
from influcoder.serve.journal import Action, Record
from influcoder.serve.wire_selections import Counts, Mark, Rule

CODES: dict[Mark, int] = {"none": 0, "keep": 1, "drop": 2, "later": 3}
NAMES: dict[int, Mark] = {code: name for name, code in CODES.items()}


@dataclass
class Marked:
    """A selection after all its actions.

    Attributes:
        marks: (rows,) codes of marks made by hand.
        by: (rows,) the number of the action that marked each row.
        actions: all of them, by number.
        rule: decides on rows without a mark.
    """

    record: Record
    marks: NDArray[np.int8]
    by: NDArray[np.int32]
    rule: Rule | None
    actions: dict[int, Action] = field(default_factory=dict)
    version: tuple[int, str] = (0, "")

    @classmethod
    def of(cls, record: Record, rows: int) -> "Marked":
        """A selection before any action."""
        rule = record.body["rule"]
        return cls(record, np.zeros(rows, np.int8), np.zeros(rows, np.int32), None if rule is None else Rule(**rule))

    def after(self, actions: list[Action], version: tuple[int, str]) -> "Marked":
        """The same after more actions."""
        marks, by, rule = self.marks.copy(), self.by.copy(), self.rule
        for action in actions:
            if "rule" in action.body:
                rule = Rule(**action.body["rule"])
            else:
                marks[action.rows] = CODES[action.body["mark"]]
                by[action.rows] = action.number
        all_actions = self.actions | {action.number: action for action in actions}
        return Marked(self.record, marks, by, rule, all_actions, version)

    @cached_property
    def ruled(self) -> tuple[NDArray[np.bool_], str]:
        """((rows,) whether the rule, or the default for unmarked rows, keeps each; the rule in words)."""
        rows, scores = len(self.marks), self.record.scores
        if self.rule is None or scores is None:
            return np.full(rows, self.record.body["rest"] == "keep"), "marked"
        selection = Selection.of_scores([""] * rows, scores, **self.rule.model_dump())
        return selection.is_kept, selection.rule

    @cached_property
    def kept(self) -> NDArray[np.bool_]:
        """(rows,) whether a row is kept: by its mark, or else by the rule."""
        by_hand = np.isin(self.marks, (CODES["keep"], CODES["drop"]))
        return np.where(by_hand, self.marks == CODES["keep"], self.ruled[0])

    @property
    def keeps_lowest(self) -> bool:
        """Whether its questions show what is unwanted."""
        return self.rule is not None and self.rule.drop is not None

    def reason(self, row: int, kept: bool, rule: str) -> str:
        """Why a row is kept or not; `rule` is the words of `ruled`."""
        mark, outcome = NAMES[int(self.marks[row])], "kept" if kept else "rejected"
        action = self.actions.get(int(self.by[row]))
        if mark in ("keep", "drop") and action is not None:
            chosen = [f"{name} {action.body[name]}" for name in ("where", "text", "least", "most") if action.body[name]]
            with_all = f", with all rows of {', '.join(chosen)}" if action.body["matching"] and chosen else ""
            return f"{outcome}: marked {mark} by hand{with_all}"
        reason = f"kept: {rule}" if kept else f"rejected: not {rule}"
        reason = ("kept: not marked" if kept else "rejected: not marked") if rule == "marked" else reason
        return f"{reason}; marked later" if mark == "later" else reason

    def note(self, row: int) -> str:
        """The note on a row's mark."""
        action = self.actions.get(int(self.by[row]))
        return str(action.body["note"]) if action is not None and self.marks[row] else ""

    def weights(self) -> Floats:
        """(rows,) weights from 0 to 1, for training that leaves no row out.

        By percentile, reversed where the highest scores are left out; 1 and 0 for rows marked by hand, and where there
        are no scores.
        """
        scores, by_hand = self.record.scores, np.isin(self.marks, (CODES["keep"], CODES["drop"]))
        weights = self.kept.astype(np.float32)
        if scores is not None and self.rule is not None:
            ranks = percentiles(scores) / 100
            weights = np.where(by_hand, weights, 1 - ranks if self.keeps_lowest else ranks)
        return weights.astype(np.float32)

    @property
    def counts(self) -> Counts:
        """How many rows are kept and marked."""
        kept = int(self.kept.sum())
        keep, drop, later = (int((self.marks == CODES[name]).sum()) for name in ("keep", "drop", "later"))
        return Counts(kept=kept, rejected=len(self.marks) - kept, keep=keep, drop=drop, later=later)

    @property
    def fingerprint(self) -> str:
        """A hash of which rows are kept."""
        return hashlib.sha256(np.packbits(self.kept).tobytes()).hexdigest()
