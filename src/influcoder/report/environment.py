"""The Jinja environment of pages: their templates, and the filters that write numbers and texts."""

from functools import cache
from typing import TYPE_CHECKING

from influcoder.report.numbers import amount, fixed, percent, plain, signed
from influcoder.report.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

    from influcoder.report.tokens import Lit

FOLD_CHARACTERS = 320
FOLD_LINES = 6
_START = 140


@cache
def environment(*packages: str) -> "Environment":
    """The templates of some packages, each compiled once, the first that has a name first; all values are escaped."""
    import jinja2

    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages])
    templates = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.filters |= {f.__name__: f for f in (fixed, signed, amount, percent, plain, fold, visible, shown)}
    return templates


def fold(text: str) -> str:
    """The start of a text too long to show whole; "" if it is short enough."""
    if len(text) <= FOLD_CHARACTERS and text.count("\n") < FOLD_LINES:
        return ""
    return " ".join(text[:_START].split())


def shown(tokens: "list[Lit]") -> "list[Lit]":
    """Lit tokens with their texts made visible."""
    return [(visible(text), kind, share) for text, kind, share in tokens]
