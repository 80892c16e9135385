"""Checks between a request and the app: who may ask, how much, how long, and what a browser may do with answers.

A web page of somebody else must not reach the service through its visitor's browser. DNS rebinding is met by the Host
header, requests across sites by Sec-Fetch-Site and Origin, which browsers set and pages cannot. There is no CORS.
docs/how-to/serve.md lists the attacks and the tests.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from influcoder.serve.explorer import Explorer
from influcoder.serve.problems import Problem, too_slow
from influcoder.serve.settings import MAX_BODY, MAX_HEADERS
from influcoder.serve.styles import STYLES_SOURCE

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/healthz", "/readyz", "/login", "/static/")
"""paths that need no token: health, and the page that asks for the token"""
COOKIE = "influcoder"
CONTENT_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src {STYLES_SOURCE}; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Safety:
    """Refuses requests that must not reach the app, and sets the headers of its answers."""

    def __init__(self, app: ASGIApp, explorer: Explorer) -> None:
        self.app, self.explorer, self.settings = app, explorer, explorer.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seconds, is_stream = self.settings.request_timeout, scope["path"].endswith("/events")
        started = arrived = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            async with asyncio.timeout(seconds):  # a client may not read
                await send(message)
            # An answer that has begun may go on as long as it moves; the events of a job as long as the job.
            limit.reschedule(None if is_stream else asyncio.get_running_loop().time() + seconds)

        limit = asyncio.timeout(seconds)
        try:
            if len(scope["raw_path"]) + sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
                raise Problem(431, "long_headers", f"address and headers are longer than {MAX_HEADERS:,} bytes.")
            self._refuse(scope["method"], scope["path"], Headers(scope=scope))
            async with limit:
                body = await _read(receive)
                arrived = True
                await self.app(scope, _replayed(body, receive), send_with_headers)
        except (Problem, TimeoutError) as error:
            if not started:
                problem = error if isinstance(error, Problem) else self._too_slow(arrived)
                await _answer(problem, scope, receive, send)

    def _refuse(self, method: str, path: str, headers: Headers) -> None:
        """Refuse a request that may not be answered.

        Raises:
            Problem: it may not.
        """
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self.settings.accepts(host):
            raise Problem(
                421,
                "wrong_host",
                "this service is not known by the name in the Host header. Name it with --allowed-host, or use the "
                "address that the service prints.",
            )
        _refuse_other_sites(method, path, host, headers)
        if self.settings.token is not None and not _is_open(path) and not self._knows_token(headers):
            where = {"WWW-Authenticate": 'Bearer realm="influcoder"'}
            if method == "GET" and "text/html" in headers.get("accept", ""):
                raise Problem(303, "log_in", "log in first.", {"Location": "/login"})
            raise Problem(401, "no_token", "send the token as `Authorization: Bearer TOKEN`.", where)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            raise _too_large()
        if "content-length" in headers and "transfer-encoding" in headers:
            raise Problem(400, "two_lengths", "send Content-Length or Transfer-Encoding, not both.")
        if headers.get("content-encoding", "identity") != "identity":
            raise Problem(415, "encoded", "send the body as it is, without Content-Encoding.")

    def _too_slow(self, arrived: bool) -> Problem:
        seconds = self.settings.request_timeout
        if not arrived:
            return Problem(408, "slow_body", f"the body did not arrive within {seconds:g} s.", {"Connection": "close"})
        return too_slow(seconds)

    def _knows_token(self, headers: Headers) -> bool:
        token = self.settings.token or ""
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return same_token(value.strip(), token)
        return any(same_token(value, session_of(token)) for value in _cookies(headers))


def same_token(value: str, token: str) -> bool:
    """Whether they are equal, compared in constant time."""
    return hmac.compare_digest(value.encode("utf-8", "surrogateescape"), token.encode())


def session_of(token: str) -> str:
    """The cookie of a browser that has sent the token: a proof of it, not the token itself."""
    return hmac.new(token.encode(), b"influcoder session", hashlib.sha256).hexdigest()


def _refuse_other_sites(method: str, path: str, host: str, headers: Headers) -> None:
    """Refuse requests that a page of another site makes a browser send.

    Following a link to the page is allowed; the other site cannot read what it shows.
    """
    site = headers.get("sec-fetch-site", "none")
    followed = headers.get("sec-fetch-mode") == "navigate" and method == "GET" and not path.startswith("/api/")
    if site not in ("same-origin", "none") and not followed:
        raise Problem(403, "other_site", "a page of another site must not ask this service.")
    origin = headers.get("origin")
    if origin == "null" and site == "same-origin":  # a form of our own page, which names no referrer
        return
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        raise Problem(403, "other_site", "the Origin header names another site.")


async def _answer(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    response = problem.response()
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    await response(scope, receive, send)


def _is_open(path: str) -> bool:
    return any(path == each or (each.endswith("/") and path.startswith(each)) for each in OPEN_PATHS)


def _cookies(headers: Headers) -> Iterable[str]:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return []
    return [morsel.value for name, morsel in cookies.items() if name == COOKIE]


async def _read(receive: Receive) -> Message:
    """A request's whole body as one message, or the message that its client is gone.

    Raises:
        Problem: it is too large.
    """
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return message
        chunks.append(message.get("body", b""))
        size, more = size + len(chunks[-1]), message.get("more_body", False)
        if size > MAX_BODY:
            raise _too_large()
    return {"type": "http.request", "body": b"".join(chunks), "more_body": False}


def _replayed(first: Message, receive: Receive) -> Receive:
    """Receives a message again, and then those that follow."""
    waiting = [first]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


def _too_large() -> Problem:
    return Problem(413, "too_large", f"the body is longer than {MAX_BODY:,} bytes.")
