"""Turn a run's numbers into one HTML page that stands alone: no script, nothing loaded from elsewhere.

`metrics.json` (the evaluation) is needed, `report.json` (queries and the rows found for them) adds the
rows. Texts come from data sets and are shown as they are: escaped, with characters that a reader could
not see, or that would reorder a line, written as ⟨U+202E⟩.
"""

import math
from pathlib import Path
from typing import Any

import orjson

from influcoder.errors import StoreError
from influcoder.extras import is_installed, pip_command
from influcoder.report.tokens import END, level, strongest_share
from influcoder.report.visible import visible
from influcoder.store.files import atomic_write, read_json

_CEILING = "exact"
_REMEDY = "Run the evaluation again to write it anew."
_METRICS = {
    "per_query_spearman": "per query",
    "aggregated_spearman": "aggregated",
    "length_controlled_spearman": "length controlled",
    "ndcg_at_10": "NDCG@10",
    "top_10_percent_overlap": "top-10 % overlap",
}
_ABOUT = {
    "influcoder": "the encoder, both sides from text",
    "influcoder-exact-query": "the encoder for the pool, the query's real gradient",
    "paper-recipe": "the published recipe on the same data",
    "untrained": "the encoder before training",
    "surface": "lengths, digits, newlines: no understanding",
    "tfidf": "shared words",
    "bm25": "shared words",
    "random": "no information",
    "exact": "the teacher with another seed",
}
_FOLD_CHARACTERS = 320
_FOLD_LINES = 6
_START = 140


def write_report(folder: Path) -> Path:
    """Write `report.html` into `folder` from its `metrics.json` and, if there, `report.json`.

    Returns:
        the page's path.

    Raises:
        StoreError: `metrics.json` is missing, or a file is not what an evaluation writes.
    """
    source = folder / "metrics.json"
    if not source.exists():
        raise StoreError(
            f"{source}: not found. A report is made from the metrics.json of an evaluation; "
            "run one with this output folder, or give the folder of one."
        )
    metrics = dict(_shown(read_json(source, _REMEDY)))
    if not _is_table(metrics.get("methods")):
        raise StoreError(
            f'{source}: no "methods" ({{name: metrics}}) in it. Run the evaluation again to write it anew.'
        )
    details = dict(_shown(read_json(folder / "report.json", _REMEDY))) if (folder / "report.json").exists() else {}
    from jinja2 import UndefinedError

    try:
        text = _render(metrics, details)
    except (AttributeError, KeyError, TypeError, ValueError, UndefinedError) as error:
        raise StoreError(
            f"{folder}: metrics.json or report.json is not in the form this version reads ({error}). "
            "Run the evaluation again with this version."
        ) from error
    atomic_write(folder / "report.html", text.encode())
    return folder / "report.html"


def _shown(value: Any) -> Any:
    """The same value with every text in it made visible, so that no later step has to think of it."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key): _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(row, dict) for row in value.values())


def _render(metrics: dict[str, Any], details: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("influcoder.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"fixed": fixed, "signed": signed, "amount": amount, "plain": _plain}
    return environment.get_template("report.html").render(
        metrics=metrics,
        details=details,
        columns=_METRICS,
        queries=[_query(query, f"query-{n}") for n, query in enumerate(details.get("queries") or [], start=1)],
        planted=sorted(
            (metrics.get("planted") or {}).items(), key=lambda item: -(_number(item[1], "recall_at_10") or 0)
        ),
        fold=_fold,
        undrawn="" if is_installed("matplotlib") else pip_command("matplotlib"),
        **_methods(metrics["methods"]),
    )


def _methods(table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The methods best first, with costs against the ceiling's, and the two figures over them."""
    from influcoder.report.figures import Point, forest, scatter

    reference = table.get(_CEILING, {})
    rows: list[dict[str, Any]] = []
    points: list[Point] = []
    for name, row in sorted(table.items(), key=lambda item: _order(*item)):
        mark = "ceiling" if name == _CEILING else "ours" if name.startswith("influcoder") else ""
        intervals = row.get("interval_95") or {}
        speed, size = _number(row, "ms_per_example"), _number(row, "bytes_per_example")
        rows.append(
            {
                "name": name,
                "about": _ABOUT.get(name, ""),
                "mark": mark,
                "cells": [(_number(row, metric), _pair(intervals.get(metric))) for metric in _METRICS],
                "ms": speed,
                "per_second": 1000 / speed if speed else None,
                "bytes": size,
                "faster": _ratio(_number(reference, "ms_per_example"), speed),
                "smaller": _ratio(_number(reference, "bytes_per_example"), size),
            }
        )
        value, interval = rows[-1]["cells"][0]
        if value is not None:
            points.append(Point(name, value, interval, speed, mark))
    by_name = {row["name"]: row for row in rows}
    return {"methods": rows, "by_name": by_name, "forest": forest(points), "scatter": scatter(points)}


def _order(name: str, row: dict[str, Any]) -> tuple[bool, float, str]:
    value = _number(row, "per_query_spearman")
    return value is None, -(value or 0.0), name


def _query(query: dict[str, Any], key: str) -> dict[str, Any]:
    """A query of `report.json` with its histogram drawn and each row told from the null band."""
    from influcoder.report.figures import histogram

    band = _pair(query.get("null_band"))
    found = {side: [_hit(hit, band) for hit in query.get(side) or []] for side in ("proponents", "opponents")}
    bins = query.get("histogram") or {}
    scores = [hit["score"] for side in found.values() for hit in side if hit["score"] is not None]
    edges, counts = (_numbers(bins.get(name)) for name in ("edges", "counts"))
    lit = any(hit["lit_tokens"] for side in found.values() for hit in side)
    figure = histogram(key, edges, counts, band, scores)
    return query | found | {"key": key, "band": band, "figure": figure, "lit": lit}


def _hit(hit: dict[str, Any], band: tuple[float, float] | None) -> dict[str, Any]:
    score = _number(hit, "score")
    sign = "zero" if not score else "up" if score > 0 else "down"
    inside = score is not None and band is not None and band[0] <= score <= band[1]
    glyph = {"up": "▲", "down": "▼", "zero": "○"}[sign]
    told = {f"lit_{name}": _lit(hit.get(name) or []) for name in ("tokens", "answer_tokens")}
    return hit | told | {"score": score, "sign": sign, "glyph": glyph, "inside": inside}


def _lit(tokens: list[tuple[str, float]]) -> list[tuple[str, str, float]]:
    """(text, how it is lit, share) of each token: towards 1 to 3, away 1 to 3, or not at all."""
    strongest = strongest_share(tokens)
    found = []
    for text, share in tokens:
        bright = level(share, strongest)
        kind = f"{'towards' if share > 0 else 'away'}{bright}" if bright else ""
        found.append((text or (END if kind else ""), kind, share))
    return found


def _fold(text: str) -> str:
    """The start of a text too long to show whole; "" if it is short enough."""
    if len(text) <= _FOLD_CHARACTERS and text.count("\n") < _FOLD_LINES:
        return ""
    return " ".join(text[:_START].split())


def _number(row: dict[str, Any], key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _numbers(values: Any) -> list[float]:
    found = [_number({"": value}, "") for value in values or []]
    return [value for value in found if value is not None] if None not in found else []


def _pair(values: Any) -> tuple[float, float] | None:
    numbers = _numbers(values)
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _ratio(reference: float | None, value: float | None) -> float | None:
    return reference / value if reference is not None and value else None


def fixed(value: Any, digits: int = 3) -> str:
    """Write a number with so many decimals; "–" where there is none.

    >>> fixed(-0.0123), fixed(None)
    ('−0.012', '–')
    """
    return "–" if _number({"": value}, "") is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: Any) -> str:
    """Write a score with its sign and three digits.

    >>> signed(0.12), signed(-4.5e-6)
    ('+0.120', '−4.50e−06')
    """
    return "–" if _number({"": value}, "") is None else f"{value:+#.3g}".replace("-", "−")


def amount(value: Any) -> str:
    """Write a count, time or size with as many digits as it takes to compare it.

    >>> amount(65536), amount(0.01234), amount(12.5)
    ('65,536', '0.0123', '12.5')
    """
    if _number({"": value}, "") is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _plain(value: Any) -> str:
    """A provenance value as text: JSON where it is not text already."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
