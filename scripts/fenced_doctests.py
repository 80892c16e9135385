"""A griffe extension for the documentation's site: examples in docstrings become code blocks."""

import re

import griffe

_DOCTEST = re.compile(r"(?m)^>>> .*\n(?:.+\n?)*")


class FencedDoctests(griffe.Extension):
    """Puts the doctests of every docstring into fences, where Markdown would read `>>>` as a quotation."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring:
            obj.docstring.value = _DOCTEST.sub(
                lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", obj.docstring.value
            )
