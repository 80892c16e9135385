"""The state of the page, all of it in the URL: what was asked, how it is looked at, which filters hold."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from influcoder.attribution.row_filter import MOST
from influcoder.serve.settings import MAX_TEXT, MAX_TOKEN_ROWS
from influcoder.serve.wire import Question

VIEWS = {
    "sides": "For and against",
    "methods": "Methods compared",
    "rows": "All rows",
    "map": "Map and regions",
    "set": "Question set",
}
SORTS = {"-score": "raises most first", "score": "lowers most first", "-length": "longest first", "row": "pool order"}
MOST_SHOWN = 50
"""rows of a side"""


@dataclass(frozen=True, slots=True)
class Address:
    """What one URL of the page shows.

    Attributes:
        query: the id of a saved question, or
        prompt, completion: what was asked and answered; without completion the decoder answers.
        view: one of `VIEWS`.
        where: filters, in the order in which they were added.
        sort, page: of the table of all rows.
        shown: rows of each side.
        lit: rows whose tokens are lit.
        job: the re-check whose results are shown.
        selection: the id of the one that rows are marked in.
        by: how the scores of a question set are summed up: mean or max.
        budget: the share of rows that a question set keeps.
    """

    query: str = ""
    prompt: str = ""
    completion: str = ""
    view: str = "sides"
    where: tuple[str, ...] = ()
    sort: str = "-score"
    page: int = 1
    shown: int = 10
    lit: tuple[str, ...] = ()
    job: str = ""
    selection: str = ""
    by: str = "mean"
    budget: float = 0.05

    @classmethod
    def of(cls, params: QueryParams) -> "Address":
        """Read from a URL; values that cannot be used are ignored.

        >>> Address.of(QueryParams("prompt=Who?&view=map&page=x")).url()
        '/?prompt=Who%3F&view=map'
        """
        view, sort, by = params.get("view", ""), params.get("sort", ""), params.get("by", "")
        return cls(
            query=params.get("query", "")[:512],
            prompt=params.get("prompt", "")[:MAX_TEXT].replace("\r\n", "\n"),
            completion=params.get("completion", "")[:MAX_TEXT].replace("\r\n", "\n"),
            view=view if view in VIEWS else "sides",
            where=tuple(dict.fromkeys(value.strip() for value in params.getlist("where") if value.strip()))[:MOST],
            sort=sort if sort in SORTS else "-score",
            page=max(1, int(_number(params.get("page"), 1))),
            shown=min(MOST_SHOWN, max(1, int(_number(params.get("shown"), 10)))),
            lit=tuple(dict.fromkeys(value for value in params.getlist("lit") if _is_row(value)))[:MAX_TOKEN_ROWS],
            job=params.get("job", "")[:64],
            selection=params.get("selection", "")[:64],
            by=by if by in ("mean", "max") else "mean",
            budget=min(1.0, max(0.0, _number(params.get("budget"), 0.05))),
        )

    @property
    def asks(self) -> bool:
        """Whether there is a question."""
        return bool(self.query or self.prompt.strip() or self.completion.strip())

    def question(self) -> Question:
        """The question, as the API takes it."""
        if self.query:
            return Question.model_validate({"query": self.query})
        completion = self.completion if self.completion.strip() else None
        return Question.model_validate({"prompt": self.prompt, "completion": completion})

    @property
    def text(self) -> str:
        """The URL's query string, which a form sends back to show the same again."""
        return urlencode(self.fields())

    def fields(self) -> list[tuple[str, str]]:
        """Names and values that differ from the first page's."""
        pairs: list[tuple[str, str]] = []
        for name, field in Address.__dataclass_fields__.items():
            value: Any = getattr(self, name)
            if value == field.default:
                continue
            pairs += [(name, str(part)) for part in (value if isinstance(value, tuple) else (value,))]
        return pairs

    def url(self, path: str = "/", **changes: Any) -> str:
        """The URL of this state with some changes; another question, view or filter begins at the first page."""
        changed = replace(self, **changes)
        if "page" not in changes and changed != self:
            changed = replace(changed, page=1)
        text = urlencode(changed.fields())
        return f"{path}?{text}" if text else path

    def asking(self, query: str) -> str:
        """The URL of a saved question."""
        view = "sides" if self.view == "set" else self.view
        return self.url(query=query, prompt="", completion="", lit=(), job="", view=view)

    def lighting(self, row: int) -> str:
        """The URL with the tokens of a row lit, or without if they are."""
        lit = tuple(each for each in self.lit if each != str(row))
        return self.url(lit=lit if len(lit) < len(self.lit) else (*lit, str(row)), page=self.page)

    def also(self, *conditions: str) -> str:
        """The URL with more filters, in a view where they are of use."""
        view = "rows" if self.view in ("map", "methods") else self.view
        return self.url(where=tuple(dict.fromkeys([*self.where, *conditions])), view=view)

    def without(self, conditions: Sequence[str]) -> str:
        """The URL without some filters."""
        return self.url(where=tuple(condition for condition in self.where if condition not in conditions))


def _is_row(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 18


def _number(text: str | None, otherwise: float) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return otherwise
    return value if abs(value) < 1e9 else otherwise
