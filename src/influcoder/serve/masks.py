"""Loss masks of the tokens of the rows that a selection keeps, from real gradients, saved with the selection."""

from typing import TYPE_CHECKING

from influcoder.attribution.token_mask import counts, masks_of_kept
from influcoder.serve.jobs import Job
from influcoder.serve.journal import Journal
from influcoder.serve.marked import Marked
from influcoder.serve.problems import Problem
from influcoder.serve.settings import MAX_MASKED
from influcoder.serve.wire import MaskAnswer
from influcoder.verbs.opening import open_whole_index, read_rows

if TYPE_CHECKING:
    from influcoder.serve.explorer import Explorer


class Masks:
    """The masks of an explorer's selections."""

    def __init__(self, explorer: "Explorer", journal: Journal) -> None:
        self._explorer, self._journal = explorer, journal

    def start(self, name: str, share: float) -> Job:
        """Begin to mask the tokens of the rows that a selection keeps, as `influcoder select --mask-tokens` does.

        Raises:
            Problem: it has no questions, or keeps no rows or very many; or there is no decoder.
        """
        explorer = self._explorer
        teacher, marked = explorer.needed_teacher(), explorer.selections.marked(name)
        questions, kept = explorer.selections.questions(name), int(marked.kept.sum())
        if not questions:
            raise Problem(422, "no_questions", "this selection has no questions that its tokens could push away from.")
        if not 0 < kept <= MAX_MASKED:
            raise Problem(
                422,
                "rows_to_mask",
                f"the selection keeps {kept:,} rows, of each of which a gradient is taken; expected 1 to "
                f"{MAX_MASKED:,}. Use `influcoder select --mask-tokens` for more.",
            )

        def work(job: Job) -> MaskAnswer:
            queries = read_rows(questions, "questions")
            masks = masks_of_kept(
                teacher,
                open_whole_index(explorer.index),
                marked.kept,
                queries,
                share,
                unwanted=marked.keeps_lowest,
                advance=lambda done, total: explorer.jobs.advance(job, done, total),
            )
            self._journal.keep_mask(name, marked.fingerprint, share, masks)
            return MaskAnswer(share=share, **counts(masks))

        return explorer.jobs.start(work, selection=name)

    def answer(self, name: str, marked: Marked) -> MaskAnswer | None:
        """The mask of a selection; None where there is none for the rows that it keeps now."""
        facts = self._journal.mask_facts(name)
        if facts is None or facts[0] != marked.fingerprint:
            return None
        return MaskAnswer(share=facts[1], masked=facts[2], of=facts[3])

    def of(self, name: str, marked: Marked) -> list[list[int]] | None:
        """The mask of each row that a selection keeps, in their order."""
        return None if self.answer(name, marked) is None else self._journal.mask(name)
