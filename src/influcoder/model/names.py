"""Layers by name: the patterns of --modules, and those that a message suggests."""

import fnmatch
import re
from collections.abc import Collection, Iterable

from influcoder.errors import some_of


class Chosen:
    """The names that some patterns choose.

    Args:
        patterns: globs, separated by spaces or commas; a name is chosen if one matches it, and none that begins with
            an exclamation mark. All but the excluded are when there are only such; all when None.

    >>> names = Chosen("*_proj !*.dt_proj")
    >>> "layers.0.in_proj" in names, "layers.0.dt_proj" in names
    (True, False)
    """

    def __init__(self, patterns: str | None) -> None:
        words = [word for word in re.split(r"[\s,]+(?![^\[]*\])", patterns or "") if word]
        self._left_out = [word[1:] for word in words if word.startswith("!")]
        self._taken = [word for word in words if not word.startswith("!")]
        if patterns is None or (self._left_out and not self._taken):
            self._taken = ["*"]

    def __contains__(self, name: str) -> bool:
        taken, left_out = (
            any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
            for patterns in (self._taken, self._left_out)
        )
        return taken and not left_out


def leaving_out(names: Iterable[str], others: Collection[str], patterns: str | None) -> str:
    """The --modules that leaves some names out and none of the others: the shortest endings that do.

    >>> leaving_out(["layers.0.mixer.conv", "layers.1.mixer.conv"], ["layers.0.mixer.in_proj"], None)
    "--modules '!*.conv'"
    """
    found: dict[str, None] = {}
    for name in names:
        if name in Chosen(" ".join(["*", *found])):
            found["!" + _ending(name, others)] = None
    return "--modules " + " ".join(f"'{word}'" for word in [*(patterns or "").split(), *found])


def _ending(name: str, others: Collection[str]) -> str:
    parts = ["*" if part.isdecimal() else part for part in name.split(".")]
    for count in range(1, len(parts)):
        pattern = "*." + ".".join(parts[-count:])
        if parts[-count] != "*" and not fnmatch.filter(others, pattern):
            return pattern
    return name


def layers(names: Collection[str]) -> str:
    """Some layers in words: `layer a`, `layers a, b and 4 more`."""
    return f"layer{'s' if len(names) > 1 else ''} {some_of(names)}"
