"""The page: what a person sees of the explorer. The URL says all of what is shown; without a script it shows as much.

GET /                      the page of a question, in one of its views (view/address.py)
GET /spread                its right-hand side alone, for pools whose rows take long to score
GET /map.json              the points of the map
"""

from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from influcoder import report
from influcoder.errors import InflucoderError
from influcoder.report.environment import environment
from influcoder.serve.problems import Problem
from influcoder.serve.view.address import Address
from influcoder.serve.view.screen import Screen

HERE = Path(__file__).parent
COMPONENTS = Path(report.__file__).parent / "templates" / "components.css"
POINTS = 20_000
"""of the map, at most"""
TEMPLATES = environment("influcoder.serve", "influcoder.report")
router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
async def page(request: Request) -> Response:
    """A question, and the rows behind its answer."""
    return await _written(request, "page.html", lambda screen, address: screen.shown(address))


@router.get("/spread", response_class=HTMLResponse)
async def spread(request: Request) -> Response:
    """How the scores of all rows are spread."""
    return await _written(request, "parts/spread.html", lambda screen, address: screen.spread_alone(address))


@router.get("/map.json")
async def points(request: Request) -> Response:
    """Places, scores and regions of the rows, or of 20,000 random ones."""
    screen, address = _screen(request), Address.of(request.query_params)
    try:
        found = await screen.explorer.worker.run(lambda: screen.points(address, POINTS))
    except (Problem, InflucoderError) as error:
        return _problem(error).response()
    return JSONResponse({name: np.round(one, 4).tolist() for name, one in found.items()})


@router.get("/static/components.css")
def components() -> FileResponse:
    """The styles that the page and the report share."""
    return FileResponse(COMPONENTS, media_type="text/css")


async def _written(request: Request, template: str, show: Any) -> Response:
    """A template filled with what the worker finds; an error is shown on the page that it is of."""
    screen, address = _screen(request), Address.of(request.query_params)
    status, held = 200, screen.frame(address)
    try:
        if not screen.explorer.ready:
            status = 503
        else:
            held |= await screen.explorer.worker.run(lambda: show(screen, address))
    except (Problem, InflucoderError) as error:
        problem = _problem(error)
        status, held = problem.status, held | {"problem": problem.detail}
    text = TEMPLATES.get_template(template).render(held)
    return HTMLResponse(text, status, {"Retry-After": "2"} if status == 503 else None)


def _screen(request: Request) -> Screen:
    screen: Screen = request.app.state.screen
    return screen


def _problem(error: Problem | InflucoderError) -> Problem:
    return error if isinstance(error, Problem) else Problem.of(error)
