"""Where pages get their templates, and the words that these write numbers and texts with."""

from typing import TYPE_CHECKING

from influcoder.report.numbers import amount, fixed, percent, plain, signed
from influcoder.report.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment

    from influcoder.report.tokens import Lit

FOLD_CHARACTERS = 320
FOLD_LINES = 6
_START = 140


def environment(*packages: str) -> "Environment":
    """Templates of some rooms, the first that has one by a name; what is put into them is escaped."""
    import jinja2

    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages])
    made = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "fixed": fixed,
        "signed": signed,
        "amount": amount,
        "percent": percent,
        "plain": plain,
        "fold": fold,
        "visible": visible,
        "shown": _shown,
    }
    return made


def fold(text: str) -> str:
    """The start of a text too long to show whole; "" if it is short enough."""
    if len(text) <= FOLD_CHARACTERS and text.count("\n") < FOLD_LINES:
        return ""
    return " ".join(text[:_START].split())


def _shown(tokens: "list[Lit]") -> "list[Lit]":
    """Lit tokens whose texts hide nothing."""
    return [(visible(text), kind, share) for text, kind, share in tokens]
