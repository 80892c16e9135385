"""Numbers that may be missing, and how a page writes them."""

import math
from typing import Any

import orjson


def finite(value: Any) -> float | None:
    """A finite number as it is; None for anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def number(row: dict[str, Any], key: str) -> float | None:
    """A finite number of a table; None where there is none."""
    return finite(row.get(key))


def numbers(values: Any) -> list[float]:
    """A list of finite numbers; empty if any of them is not finite."""
    kept = [value for value in values or [] if finite(value) is not None]
    return kept if len(kept) == len(values or []) else []


def pair(values: Any) -> tuple[float, float] | None:
    """The two ends of an interval; None where there are not two."""
    ends = numbers(values)
    return (ends[0], ends[1]) if len(ends) == 2 else None


def ratio(reference: float | None, value: float | None) -> float | None:
    """How many times smaller a value is than the reference."""
    return reference / value if reference is not None and value else None


def fixed(value: Any, digits: int = 3) -> str:
    """Write a number with so many decimals; "–" where there is none.

    >>> fixed(-0.0123), fixed(None)
    ('−0.012', '–')
    """
    return "–" if finite(value) is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: Any) -> str:
    """Write a score with its sign and three digits.

    >>> signed(0.12), signed(-4.5e-6)
    ('+0.120', '−4.50e−06')
    """
    return "–" if finite(value) is None else f"{value:+#.3g}".replace("-", "−")


def amount(value: Any) -> str:
    """Write a count, time or size with as many digits as it takes to compare it.

    >>> amount(65536), amount(0.01234), amount(12.5)
    ('65,536', '0.0123', '12.5')
    """
    if finite(value) is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def percent(share: Any) -> str:
    """Write a share in percent.

    >>> percent(0.946), percent(-0.0), percent(None)
    ('95 %', '0 %', '–')
    """
    return "–" if finite(share) is None else f"{round(100 * share):,} %".replace("-", "−")


def plain(value: Any) -> str:
    """A provenance value as text: JSON where it is not text already."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def sign_of(strength: float | None) -> str:
    """Which way a row pushes: "up" makes the completion more likely, "down" less.

    >>> sign_of(0.5), sign_of(-1e-9), sign_of(0.0), sign_of(None)
    ('up', 'down', 'zero', 'zero')
    """
    return "zero" if not strength else "up" if strength > 0 else "down"
