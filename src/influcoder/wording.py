"""Parts of sentences that several messages are made of."""

from collections.abc import Collection


def first_line(error: Exception) -> str:
    """What another library's error says, in a line; its class when it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def some_of(names: Collection[str]) -> str:
    """The first three of some names, and how many more there are.

    >>> some_of(["d", "c", "b", "a"])
    'a, b, c and 1 more'
    """
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
