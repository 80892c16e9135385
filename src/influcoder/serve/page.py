"""The page: what a person sees of the explorer. Handlers get the `Explorer` and fill templates with its answers."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates

from influcoder.report.visible import visible
from influcoder.serve.explorer import Explorer

HERE = Path(__file__).parent
TEMPLATES = Jinja2Templates(directory=HERE / "templates")
TEMPLATES.env.filters["visible"] = visible
router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
def page(request: Request) -> HTMLResponse:
    """The first page."""
    explorer: Explorer = request.app.state.explorer
    return TEMPLATES.TemplateResponse(request, "page.html", {"explorer": explorer})
