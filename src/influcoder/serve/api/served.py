"""What every function of the API needs: the explorer, and the descriptions of its errors."""

from typing import Annotated, Any

from fastapi import Depends, Request

from influcoder.serve.explorer import Explorer
from influcoder.serve.wire import ProblemBody


def explorer_of(request: Request) -> Explorer:
    """What is served."""
    explorer: Explorer = request.app.state.explorer
    return explorer


Served = Annotated[Explorer, Depends(explorer_of)]

_DESCRIPTIONS = {
    401: "no token, or a wrong one",
    403: "asked by a page of another site",
    404: "not there",
    409: "the rows have changed since",
    413: "too large",
    421: "an unknown Host",
    422: "cannot be asked like this; `detail` says what to do",
    429: "too many are waiting; ask again after `Retry-After` seconds",
    500: "a fault, or a damaged index or encoder",
    503: "still loading, shutting down, or not answered in time",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": ProblemBody.model_json_schema()}},
    }
    for status, description in _DESCRIPTIONS.items()
}
