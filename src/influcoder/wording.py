"""Parts of sentences that several messages are made of."""

from collections.abc import Collection


def first_line(error: Exception) -> str:
    """What another library's error says, in a line; its class when it says nothing."""
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {rest[0].strip()}" if first.endswith(":") and rest else first


def some_of(names: Collection[str]) -> str:
    """The first three of some names, and how many more there are.

    >>> some_of(["d", "c", "b", "a"])
    'a, b, c and 1 more'
    """
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
