"""Errors as RFC 9457 describes them: `application/problem+json`, with the sentence that the command line prints."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from influcoder.errors import (
    ConfigError,
    DataError,
    InflucoderError,
    MissingDependency,
    ModelError,
    StoreError,
    StoreIncomplete,
)
from influcoder.report.visible import one_line

LOGGER = logging.getLogger("influcoder.serve")
STATUS: Mapping[type[InflucoderError], int] = {
    ConfigError: 422,
    DataError: 422,
    ModelError: 500,
    StoreIncomplete: 503,
    StoreError: 500,
    MissingDependency: 501,
}
LONGEST = 2000
"""characters of a detail"""


class Problem(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of HTTP.
        kind: one word for programs; the last part of the problem's `type`.
        detail: what happened, what was expected, what to do.
        headers: of the answer, `Retry-After` for one.
    """

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers = status, kind, detail, dict(headers or {})

    @classmethod
    def of(cls, error: InflucoderError) -> "Problem":
        """One of this package's errors, as a problem."""
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
        return cls(status, type(error).__name__, str(error))

    def json(self) -> dict[str, Any]:
        """The problem's members."""
        return {
            "type": f"urn:influcoder:problem:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": one_line(self.detail, LONGEST),
        }

    def response(self) -> Response:
        """The answer."""
        return JSONResponse(self.json(), self.status, self.headers, media_type="application/problem+json")


def busy(detail: str, seconds: int, status: int = 429) -> Problem:
    """A problem that goes away: send the request again later."""
    return Problem(status, "busy" if status == 429 else "loading", detail, {"Retry-After": str(seconds)})


def too_slow(seconds: float) -> Problem:
    """A problem: the answer takes longer than the service lets it."""
    detail = f"not answered within {seconds:g} s. Ask for less, or start the service with a longer --request-timeout."
    return Problem(503, "timeout", detail, {"Retry-After": "10"})


def not_found(what: str) -> Problem:
    """A problem: something is not there."""
    return Problem(404, "not_found", what)


def answer_errors(app: FastAPI) -> None:
    """Let an app answer every error with a problem."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(InflucoderError, _influcoder_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


def _influcoder_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, InflucoderError)
    return Problem.of(error).response()


def _invalid(_: Request, error: Exception) -> Response:
    """Which part of a request is wrong; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    messages = [f"{'.'.join(str(key) for key in fault['loc'])}: {fault['msg']}" for fault in error.errors()[:5]]
    return Problem(422, "invalid_request", "; ".join(messages) or "the request cannot be read.").response()


def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    kind = HTTPStatus(status).phrase.lower().replace(" ", "_")
    detail = "the body cannot be read as JSON." if status == 400 else str(error.detail)
    return Problem(status, kind, detail, dict(error.headers or {})).response()


def _unexpected(request: Request, error: Exception) -> Response:
    LOGGER.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem(500, "fault", "a fault of the program; the service's own log has the details.").response()
