"""What a method costs: the seconds of everything that it is made from, and its memory."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psutil

Made = TypeVar("Made")
SAMPLED_EVERY = 0.01
"""seconds between two samples of the memory"""


@dataclass
class Parts:
    """Parts that are made once and shared by methods, with the seconds that each took.

    The learning time of a method is its own and that of every part it used, whichever method used it first.

    >>> parts = Parts()
    >>> parts.cost_of(lambda: parts.get("teacher", lambda: "made"))[0]
    'made'
    """

    _made: dict[str, Any] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _used: dict[str, set[str]] = field(default_factory=dict)
    _open: list[set[str]] = field(default_factory=list)

    def get(self, name: str, make: Callable[[], Made]) -> Made:
        """The named part, made by `make` at its first use."""
        if name not in self._made:
            self._made[name], self._seconds[name], used = self._watched(make)
            self._used[name] = used | {name}
        for using in self._open[-1:]:
            using |= self._used[name]
        part: Made = self._made[name]
        return part

    def cost_of(self, make: Callable[[], Made]) -> tuple[Made, float]:
        """(what `make` returns, the seconds of it and of all parts it used)."""
        made, own, used = self._watched(make)
        return made, own + sum(self._seconds[name] for name in used)

    def _watched(self, make: Callable[[], Made]) -> tuple[Made, float, set[str]]:
        """(what `make` returns, its own seconds without those of parts made on the way, the parts it used)."""
        self._open.append(set())
        before, began = sum(self._seconds.values()), time.perf_counter()
        try:
            made = make()
        finally:
            used = self._open.pop()
        return made, time.perf_counter() - began - (sum(self._seconds.values()) - before), used


@contextlib.contextmanager
def memory_taken() -> Iterator[Callable[[], float]]:
    """Give the block a function that returns by how many megabytes this process has grown in it, at the peak."""
    process = psutil.Process()
    before = highest = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(SAMPLED_EVERY):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: (max(highest, process.memory_info().rss) - before) / 1e6
    finally:
        done.set()
        watcher.join()
