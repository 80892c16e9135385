"""The login page: a browser sends the token once, and keeps a proof of it in a cookie that no script can read."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from influcoder.serve.explorer import Explorer
from influcoder.serve.forms import form_of
from influcoder.serve.page import TEMPLATES
from influcoder.serve.safety import COOKIE, same_token, session_of

router = APIRouter(include_in_schema=False)
DAY = 24 * 3600


@router.get("/login", response_class=HTMLResponse)
def ask(request: Request) -> Response:
    """The form that asks for the token."""
    return _form(request, wrong=False)


@router.post("/login", response_class=HTMLResponse)
async def give(request: Request) -> Response:
    """Check the token; a wrong one shows the form again."""
    explorer: Explorer = request.app.state.explorer
    expected, token = explorer.settings.token or "", (await form_of(request)).get("token", "")
    if not expected or not same_token(token.strip(), expected):
        return _form(request, wrong=True)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(COOKIE, session_of(expected), max_age=DAY, httponly=True, samesite="strict", path="/")
    return answer


def _form(request: Request, *, wrong: bool) -> Response:
    # Its own address as referrer: without one a browser sends the form with the Origin "null".
    headers = {"Referrer-Policy": "same-origin"}
    return TEMPLATES.TemplateResponse(request, "login.html", {"wrong": wrong}, 401 if wrong else 200, headers)
