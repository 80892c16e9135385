"""The page of the explorer. Its whole state is in the URL, and it works without scripts.

GET  /              the page of a question, in one of its views (view/address.py)
POST /recheck       start a re-check with real gradients, and show its progress
GET  /spread        the right-hand side alone, for pools whose rows take long to score
GET  /map.json      the points of the map
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from fastapi.templating import Jinja2Templates
from starlette.datastructures import QueryParams

from influcoder.errors import InflucoderError
from influcoder.serve.api.questions import save
from influcoder.serve.forms import form_of
from influcoder.serve.problems import Problem, too_slow
from influcoder.serve.styles import PAGES
from influcoder.serve.view.address import Address
from influcoder.serve.view.answers import Answer
from influcoder.serve.view.screen import Screen
from influcoder.serve.wire import TokensRequest, VerifyRequest

TEMPLATES = Jinja2Templates(env=PAGES)
WHOLE = "page.html"
SOON = 0.02
"""seconds after which the start of a page is sent ahead of the rest"""
SHARE_OF_TIME = 0.9
"""of the time that a request may take, before the page says that it was too long"""
POINTS = 20_000
"""points of the map, at most"""
VERIFY, CERTIFY = 50, 200
"""rows of each side that a re-check scores, and random others"""
MASKED = 0.05
"""share of tokens that a mask leaves out"""
router = APIRouter(include_in_schema=False)
Show = Callable[[Screen, Address, Answer | None], dict[str, Any]]
Act = Callable[[Screen, Address, dict[str, str]], Awaitable[str]]
"""does what a form asks for; returns the address to show next"""


@router.get("/", response_class=HTMLResponse)
async def page(request: Request) -> Response:
    """A question, and the rows behind its answer."""
    return await _page_at(request, WHOLE, Screen.shown)


@router.get("/spread", response_class=HTMLResponse)
async def spread(request: Request) -> Response:
    """How the scores of all rows are spread."""
    return await _page_at(request, "parts/spread.html", Screen.spread_alone)


@router.get("/map.json")
async def points(request: Request) -> Response:
    """Places, scores and regions of the rows, or of 20,000 random ones."""
    screen, address = _screen(request), Address.of(request.query_params)
    columns = await _shown(screen, address, lambda screen, address, answer: screen.points(address, answer, POINTS))
    return JSONResponse({name: np.round(values, 4).tolist() for name, values in columns.items()})


@router.post("/recheck")
async def recheck(request: Request) -> Response:
    """Start a re-check of the question, and show its progress."""

    async def start(screen: Screen, address: Address, _: dict[str, str]) -> str:
        question, k = address.question().model_dump(), min(10, len(screen.explorer.index))
        job = screen.explorer.verify(VerifyRequest(**question, k=k, verify=VERIFY, certify=CERTIFY))
        return address.url(view="methods", job=job.id)

    return await _go_on(request, start)


@router.post("/mark")
async def mark(request: Request) -> Response:
    """Mark a row, or all that the filters leave, in the selection of the URL, or in a new one."""

    async def decide(screen: Screen, address: Address, form: dict[str, str]) -> str:
        prepared = await screen.explorer.prepared(address.question()) if address.asks else None
        selection = await screen.marking.mark(address, form, prepared)
        return address.url(selection=selection, page=address.page)

    return await _go_on(request, decide)


@router.post("/undo")
async def undo(request: Request) -> Response:
    """Take the last mark back."""

    async def back(screen: Screen, address: Address, _: dict[str, str]) -> str:
        screen.explorer.selections.undo(address.selection)
        return address.url()

    return await _go_on(request, back)


@router.post("/mask")
async def mask(request: Request) -> Response:
    """Start to mask the tokens of the rows that the selection of the URL keeps."""

    async def start(screen: Screen, address: Address, _: dict[str, str]) -> str:
        return address.url(job=screen.explorer.selections.masks.start(address.selection, MASKED).id)

    return await _go_on(request, start)


@router.post("/ask")
async def ask(request: Request) -> Response:
    """Save a question, even one that is too long for a URL, and show its answer."""

    async def keep(screen: Screen, address: Address, form: dict[str, str]) -> str:
        question = Address(prompt=form.get("prompt", ""), completion=form.get("completion", "")).question()
        saved = await save(question, screen.explorer)
        return address.asking(saved.id)

    return await _go_on(request, keep)


async def _go_on(request: Request, act: Act) -> Response:
    """Do what a form asks for and go to the next address; an error is shown on the page."""
    form = await form_of(request)
    address = Address.of(QueryParams(form.get("back", "")))
    try:
        return RedirectResponse(await act(_screen(request), address, form), 303)
    except (Problem, InflucoderError) as error:
        return _page_of(_screen(request), WHOLE, address, error)


async def _page_at(request: Request, template: str, show: Show) -> Response:
    """A template, filled; an error is shown on the page."""
    screen, address = _screen(request), Address.of(request.query_params)
    if not screen.explorer.ready:
        return _page_of(screen, template, address, None, status=503)
    shown = asyncio.ensure_future(_shown(screen, address, show))
    if template == WHOLE and not (await asyncio.wait({shown}, timeout=SOON))[0]:
        return StreamingResponse(_in_two(screen, address, shown), media_type="text/html")
    try:
        context = await shown
    except (Problem, InflucoderError) as error:
        return _page_of(screen, template, address, error)
    return _page_of(screen, template, address, None, **context)


async def _in_two(screen: Screen, address: Address, shown: asyncio.Task[dict[str, Any]]) -> AsyncIterator[str]:
    """The start of the page, which the browser can paint, and the rest when it is computed, or why it is not."""
    seconds = screen.explorer.settings.request_timeout
    try:
        yield TEMPLATES.get_template("page_start.html").render(screen.frame(address))
        async with asyncio.timeout(SHARE_OF_TIME * seconds):
            context = await shown
    except (Problem, InflucoderError) as error:
        context = _trouble(error)
    except TimeoutError:
        context = _trouble(too_slow(seconds))
    finally:
        shown.cancel()
    yield TEMPLATES.get_template("page_rest.html").render(_context(screen, address, context))


def _page_of(
    screen: Screen,
    template: str,
    address: Address,
    error: Problem | InflucoderError | None,
    status: int = 200,
    **view: Any,
) -> Response:
    if error is not None:
        view = _trouble(error)
        status = view["status"]
    text = TEMPLATES.get_template(template).render(_context(screen, address, view))
    return HTMLResponse(text, status, {"Retry-After": "2"} if status == 503 else None)


def _context(screen: Screen, address: Address, view: dict[str, Any]) -> dict[str, Any]:
    return screen.frame(address) | {"job": screen.job(address)} | view


def _trouble(error: Problem | InflucoderError) -> dict[str, Any]:
    problem = error if isinstance(error, Problem) else Problem.of(error)
    return {"problem": problem.detail, "status": problem.status}


async def _shown(screen: Screen, address: Address, show: Show) -> dict[str, Any]:
    """What to show, of the question in the URL if there is one."""
    explorer, answer = screen.explorer, None
    if address.asks:
        prepared = await explorer.prepared(address.question())
        answer = await explorer.worker.run(lambda: screen.answers.of(prepared))
        missing = [int(row) for row in address.lit if int(row) not in answer.tokens]
        if missing and explorer.teacher is not None:
            body = address.question().model_dump() | {"rows": missing}
            lit = await explorer.tokens(TokensRequest.model_validate(body))
            answer.tokens |= {row.row: row for row in lit.rows}
    return await explorer.worker.run(lambda: show(screen, address, answer))


def _screen(request: Request) -> Screen:
    screen: Screen = request.app.state.screen
    return screen
