"""A selection as it is after all that was done to it."""

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
    """A selection as it is after all that was done to it.

    Attributes:
        marks: (rows,) codes of marks made by hand.
        by: (rows,) the number of the action that marked each row.
        actions: what was done, by number.
        rule: by which rows without a mark are kept.
    """

    record: Record
    marks: NDArray[np.int8]
    by: NDArray[np.int32]
    rule: Rule | None
    actions: dict[int, Action] = field(default_factory=dict)
    version: tuple[int, str] = (0, "")

    @classmethod
    def of(cls, record: Record, rows: int) -> "Marked":
        """A selection to which nothing was done yet."""
        rule = record.body["rule"]
        return cls(record, np.zeros(rows, np.int8), np.zeros(rows, np.int32), None if rule is None else Rule(**rule))

    def after(self, actions: list[Action], version: tuple[int, str]) -> "Marked":
        """The same when more was done."""
        marks, by, rule = self.marks.copy(), self.by.copy(), self.rule
        for action in actions:
            if "rule" in action.body:
                rule = Rule(**action.body["rule"])
            else:
                marks[action.rows] = CODES[action.body["mark"]]
                by[action.rows] = action.number
        done = self.actions | {action.number: action for action in actions}
        return Marked(self.record, marks, by, rule, done, version)

    @cached_property
    def ruled(self) -> tuple[NDArray[np.bool_], str]:
        """((rows,) what is kept by the rule, or as the rest; the rule in words)."""
        rows, scores = len(self.marks), self.record.scores
        if self.rule is None or scores is None:
            return np.full(rows, self.record.body["rest"] == "keep"), "marked"
        made = Selection.of_scores([""] * rows, scores, **self.rule.model_dump())
        return made.is_kept, made.rule

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
        told = f"kept: {rule}" if kept else f"rejected: not {rule}"
        told = ("kept: not marked" if kept else "rejected: not marked") if rule == "marked" else told
        return f"{told}; marked later" if mark == "later" else told

    def note(self, row: int) -> str:
        """What was noted of a row with its mark."""
        action = self.actions.get(int(self.by[row]))
        return str(action.body["note"]) if action is not None and self.marks[row] else ""

    def weights(self) -> Floats:
        """(rows,) from 0 to 1, for those who weight rows and leave none out.

        By percentile, the other way round where the highest scores are left out; 1 and 0 by hand, and where there are
        no scores.
        """
        scores, by_hand = self.record.scores, np.isin(self.marks, (CODES["keep"], CODES["drop"]))
        found = self.kept.astype(np.float32)
        if scores is not None and self.rule is not None:
            ranks = percentiles(scores) / 100
            found = np.where(by_hand, found, 1 - ranks if self.keeps_lowest else ranks)
        return found.astype(np.float32)

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
