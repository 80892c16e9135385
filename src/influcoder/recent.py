"""What was made last, kept so that it need not be made again."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The `most` values that were asked for last; two threads that miss the same one both make it.

    >>> recent = Recent(2)
    >>> recent.get("a", lambda: 1), recent.get("a", lambda: 2)
    (1, 1)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        """Whether it is kept."""
        return key in self._held

    def __getitem__(self, key: Hashable) -> T:
        """What is kept."""
        with self._lock:
            self._held.move_to_end(key)
            return self._held[key]

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made if it is not there."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        return self.put(key, make())

    def put(self, key: Hashable, value: T) -> T:
        """Keep a value, and give it back."""
        with self._lock:
            self._held[key] = value
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return value
