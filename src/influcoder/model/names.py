"""Layers by name: the patterns of --modules, and those that a message suggests."""

import fnmatch
import re
from collections.abc import Collection, Iterable


class Chosen:
    """The names that some patterns choose.

    Args:
        patterns: globs, separated by spaces or commas; a name is chosen if a pattern matches it, and no pattern with an
            exclamation mark does. If there are only such patterns, all other names are chosen; if None, all names.

    >>> names = Chosen("*_proj !*.dt_proj")
    >>> "layers.0.in_proj" in names, "layers.0.dt_proj" in names
    (True, False)
    """

    def __init__(self, patterns: str | None) -> None:
        words = [word for word in re.split(r"[\s,]+(?![^\[]*\])", patterns or "") if word]
        self._excluded = [word[1:] for word in words if word.startswith("!")]
        self._included = [word for word in words if not word.startswith("!")]
        if patterns is None or (self._excluded and not self._included):
            self._included = ["*"]

    def __contains__(self, name: str) -> bool:
        included, excluded = (
            any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
            for patterns in (self._included, self._excluded)
        )
        return included and not excluded


def leaving_out(names: Iterable[str], others: Collection[str], patterns: str | None) -> str:
    """The --modules that leaves some names out and none of the others: the shortest endings that do.

    >>> leaving_out(["layers.0.mixer.conv", "layers.1.mixer.conv"], ["layers.0.mixer.in_proj"], None)
    "--modules '!*.conv'"
    """
    excluding: list[str] = []
    for name in names:
        if name in Chosen(" ".join(["*", *excluding])):
            excluding.append("!" + _ending(name, others))
    return "--modules " + " ".join(f"'{word}'" for word in [*(patterns or "").split(), *excluding])


def _ending(name: str, others: Collection[str]) -> str:
    parts = ["*" if part.isdecimal() else part for part in name.split(".")]
    for count in range(1, len(parts)):
        pattern = "*." + ".".join(parts[-count:])
        if parts[-count] != "*" and not fnmatch.filter(others, pattern):
            return pattern
    return name
