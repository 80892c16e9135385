"""Turn a run's numbers into one self-contained HTML page: no script, nothing loaded from elsewhere.

`metrics.json` (the evaluation) is needed, `report.json` (queries and their rows) is optional. Texts come
from data sets and are shown as they are: escaped, with characters that a reader could not see, or that
would reorder a line, written as ⟨U+202E⟩.
"""

from pathlib import Path
from typing import Any

from influcoder.errors import StoreError
from influcoder.extras import is_installed, pip_command
from influcoder.report.environment import environment
from influcoder.report.numbers import number, pair, ratio
from influcoder.report.page_queries import proof_rows, query_parts, removed_rows
from influcoder.report.sentences import certified_together
from influcoder.report.visible import visible
from influcoder.store.files import atomic_write, read_json

_CEILING = "exact"
_REMEDY = "Run the evaluation again to rewrite it."
_METRICS = {
    "per_query_spearman": "per query",
    "aggregated_spearman": "aggregated",
    "length_controlled_spearman": "length controlled",
    "ndcg_at_10": "NDCG@10",
    "top_10_percent_overlap": "top-10 % overlap",
}
_ABOUT = {
    "influcoder": "the encoder, queries and pool from text",
    "influcoder-exact-query": "the encoder for the pool, the query's exact gradient",
    "paper-recipe": "the published recipe on the same data",
    "untrained": "the encoder before training",
    "surface": "lengths, digits, newlines: no understanding",
    "tfidf": "shared words",
    "bm25": "shared words",
    "random": "no information",
    "exact": "the teacher with another seed",
}


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
    methods = metrics.get("methods")
    if not isinstance(methods, dict) or not all(isinstance(row, dict) for row in methods.values()):
        raise StoreError(f'{source}: no "methods" ({{name: metrics}}) in it. {_REMEDY}')
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
    """The same value with every text in it made visible, so that no later step has to."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key): _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _render(metrics: dict[str, Any], details: dict[str, Any]) -> str:
    removed, certified = removed_rows(metrics), metrics.get("certified")
    queries = enumerate(details.get("queries") or [], start=1)
    times = {name: number(metrics["timings_s"], name) for name in metrics.get("timings_s") or {}}
    total = times.pop("total", None)
    planted = (metrics.get("planted") or {}).items()
    template = environment("influcoder.report").get_template("report.html")
    return template.render(
        metrics=metrics,
        details=details,
        columns=_METRICS,
        queries=[query_parts(query, f"query-{n}", removed) for n, query in queries],
        proof=proof_rows(metrics),
        certified=certified_together(certified) if certified else "",
        planted=sorted(planted, key=lambda item: -(number(item[1], "recall_at_10") or 0)),
        times=dict(sorted(times.items(), key=lambda item: -(item[1] or 0))),
        total=sum(seconds or 0 for seconds in times.values()) if total is None else total,
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
        speed, size = number(row, "ms_per_example"), number(row, "bytes_per_example")
        rows.append(
            {
                "name": name,
                "about": _ABOUT.get(name, ""),
                "mark": mark,
                "cells": [(number(row, metric), pair(intervals.get(metric))) for metric in _METRICS],
                "ms": speed,
                "per_second": 1000 / speed if speed else None,
                "bytes": size,
                "faster": ratio(number(reference, "ms_per_example"), speed),
                "smaller": ratio(number(reference, "bytes_per_example"), size),
            }
        )
        value, interval = rows[-1]["cells"][0]
        if value is not None:
            points.append(Point(name, value, interval, speed, mark))
    by_name = {row["name"]: row for row in rows}
    return {"methods": rows, "by_name": by_name, "forest": forest(points), "scatter": scatter(points)}


def _order(name: str, row: dict[str, Any]) -> tuple[bool, float, str]:
    value = number(row, "per_query_spearman")
    return value is None, -(value or 0.0), name
