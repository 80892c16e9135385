"""Saved questions: those the service was started with, and those that were saved since."""

import secrets

from fastapi import APIRouter

from influcoder.data.examples import Example
from influcoder.serve.api.served import Served
from influcoder.serve.problems import Problem
from influcoder.serve.wire import Question
from influcoder.serve.wire_selections import SavedQuestion

router = APIRouter(tags=["questions"])


@router.get("/queries")
def queries(explorer: Served) -> list[SavedQuestion]:
    """Every saved question."""
    return [_saved(question) for question in explorer.questions.values()]


@router.post("/queries", status_code=201)
async def save(question: Question, explorer: Served) -> SavedQuestion:
    """Save a question, with the decoder's own answer where it has none."""
    answered = await explorer.read(question)
    saved = Example.question(answered.prompt, answered.completion, id=secrets.token_hex(8))
    explorer.journal.save_question(saved.id, saved.prompt, saved.completion)
    explorer.questions[saved.id] = saved
    return _saved(saved)


@router.delete("/queries/{query}", status_code=204)
def forget(query: str, explorer: Served) -> None:
    """Forget a question that was saved here; those of the service's own files stay."""
    if not explorer.journal.remove_question(query):
        raise Problem(404, "not_found", f"no question with the id {query!r} was saved here.")
    explorer.questions.pop(query, None)


def _saved(question: Example) -> SavedQuestion:
    return SavedQuestion(id=question.id, prompt=question.prompt, completion=question.completion)
