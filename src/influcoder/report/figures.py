"""Draw the report's figures as inline SVG that follows the page's theme.

matplotlib draws with placeholder colours; in the SVG each becomes a CSS variable of the page (`--ink`,
`--muted`, `--line`, `--blue`, `--orange`, `--band`, `--page`), so that one drawing is legible in light and dark.
Text stays text. The same numbers give the same bytes.
"""

import io
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

from influcoder.extras import is_installed

_VARIABLES = {f"#01020{n}": name for n, name in enumerate(("ink", "muted", "line", "blue", "orange", "band", "page"))}
_INK, _MUTED, _LINE, _BLUE, _ORANGE, _BAND, _PAGE = _VARIABLES
_WIDTH = 5.0  # inches; 360 units of the SVG, so that a phone shows it at about its own size
_LABEL_LENGTH = 24
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "influcoder",
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.axisbelow": True,
    "text.color": _INK,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "font.size": 10,
    "axes.labelsize": 10,
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
}


@dataclass(frozen=True, slots=True)
class Point:
    """A method in a figure: its agreement, the interval around it, its cost, and how to mark it.

    Attributes:
        mark: "ours" is drawn filled blue, "ceiling" as a diamond, anything else as a hollow circle.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    cost: float | None = None
    mark: str = ""


def forest(points: Sequence[Point]) -> str:
    """SVG of each method's agreement with its 95 % interval, first on top; "" if there is nothing to draw."""
    if not points:
        return ""
    ceilings = [point.value for point in points if point.mark == "ceiling"]
    height = 0.75 + 0.27 * len(points)

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.36, 0.5 / height, 0.57, 1 - 0.7 / height))
        axes.axvline(0, color=_LINE, linewidth=1)
        for value in ceilings:
            axes.axvline(value, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.text(value, -0.75, "ceiling", ha="center", va="bottom", fontsize=9)
        for row, point in enumerate(points):
            if point.interval:
                colour = {"ours": _BLUE, "ceiling": _INK}.get(point.mark, _MUTED)
                axes.plot(point.interval, (row, row), color=colour, linewidth=2)
            axes.plot(point.value, row, **_marker(point))
        axes.set_yticks(range(len(points)), [_short(point.name) for point in points])
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.set_ylim(len(points) - 0.4, -0.7)
        axes.set_xlabel("per-query Spearman, 95 % interval")
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")

    return _svg("forest", "Agreement with the teacher, by method", height, draw)


def scatter(points: Sequence[Point]) -> str:
    """SVG of agreement against milliseconds per example; "" if no method has a cost above zero."""
    points = [point for point in points if point.cost is not None and point.cost > 0]
    if not points:
        return ""
    costs = [point.cost for point in points if point.cost]
    limits = 10.0 ** math.floor(math.log10(min(costs))), 10.0 ** (math.floor(math.log10(max(costs))) + 1)
    height = max(2.8, 0.8 + 0.2 * len(points))

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.13, 0.5 / height, 0.5, 1 - 0.65 / height))
        axes.set_xscale("log")
        axes.set_xlim(limits)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        axes.grid()
        low, high = min(0.0, *(point.value for point in points)), max(point.value for point in points)
        axes.set_ylim(low - 0.05, max(high, low + 0.2) + 0.05)
        axes.set_xlabel("ms per example (log scale)")
        axes.set_ylabel("per-query Spearman")
        for point, height_of_label in zip(points, _spread(points, axes.get_ylim(), 0.12 / height * 2), strict=True):
            right = axes.get_yaxis_transform()
            axes.plot(point.cost, point.value, **_marker(point))
            axes.annotate(
                _short(point.name),
                (point.cost, point.value),
                xytext=(1.05, height_of_label),
                textcoords=right,
                va="center",
                fontsize=9,
                arrowprops={"arrowstyle": "-", "color": _LINE, "linewidth": 0.6, "shrinkB": 4, "shrinkA": 0},
            )

    return _svg("cost", "Agreement with the teacher against time per example, by method", height, draw)


def histogram(
    key: str,
    edges: Sequence[float],
    counts: Sequence[float],
    band: tuple[float, float] | None = None,
    shown: Sequence[float] = (),
) -> str:
    """SVG of one query's scores over the pool: zero line, null band, and the shown rows as ▲ and ▼ on top.

    "" if the edges do not rise or are not one more than the counts.
    """
    if not counts or len(edges) != len(counts) + 1 or any(a >= b for a, b in pairwise(edges)):
        return ""

    def draw(figure: Any) -> None:
        axes = figure.add_axes((0.13, 0.27, 0.84, 0.6))
        if band:
            axes.axvspan(*band, color=_BAND, linewidth=0, zorder=0)
        colours = [_BLUE if a + b > 0 else _ORANGE for a, b in pairwise(edges)]
        widths = [b - a for a, b in pairwise(edges)]
        axes.bar(edges[:-1], counts, widths, align="edge", color=colours, alpha=0.75, linewidth=0)
        axes.axvline(0, color=_INK, linewidth=1)
        for score in shown:
            marker, colour = ("^", _BLUE) if score > 0 else ("v", _ORANGE)
            top = axes.get_xaxis_transform()
            axes.plot(score, 1.07, marker=marker, color=colour, markersize=6, transform=top, clip_on=False)
        axes.set_yscale("log")
        axes.set_ylim(0.5, max(*counts, 1) * 1.5)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        axes.locator_params(axis="x", nbins=6)
        axes.set_xlabel("score")
        axes.set_ylabel("rows (log)")

    return _svg(key, "Scores of the whole pool for this query", 1.9, draw)


def _marker(point: Point) -> dict[str, Any]:
    if point.mark == "ours":
        return {"marker": "o", "color": _BLUE, "markersize": 7, "linestyle": ""}
    if point.mark == "ceiling":
        return {"marker": "D", "color": _INK, "markersize": 6, "linestyle": ""}
    return {"marker": "o", "color": _MUTED, "markerfacecolor": _PAGE, "markersize": 6, "linestyle": ""}


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_LENGTH else name[: _LABEL_LENGTH - 1] + "…"


def _spread(points: Sequence[Point], limits: tuple[float, float], gap: float) -> list[float]:
    """Heights of the labels in data units: each at its point, pushed up until `gap` of the axis is between them."""
    step = gap * (limits[1] - limits[0])
    order = sorted(range(len(points)), key=lambda index: (points[index].value, points[index].name))
    heights = [0.0] * len(points)
    previous = limits[0] - step / 2
    for index in order:
        previous = heights[index] = max(points[index].value, previous + step)
    ceiling = limits[1]
    for index in reversed(order):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - step
    return heights


def _svg(key: str, title: str, height: float, draw: Any) -> str:
    """What `draw` puts on a figure, as one inline <svg> whose ids start with `key`."""
    if not is_installed("matplotlib"):
        return ""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a letter DejaVu lacks: the browser's fonts draw the text
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(_WIDTH, height))
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return _inline(buffer.getvalue(), key, title)


def _inline(svg: bytes, key: str, title: str) -> str:
    """The drawing without prolog, metadata, style sheet and namespaces, which a page does not need."""
    drawing = ElementTree.fromstring(svg)
    for node in drawing.iter():
        node.tag = node.tag.rpartition("}")[2]
        node.attrib = {name.rpartition("}")[2]: value for name, value in node.attrib.items()}
        for child in list(node):
            if child.tag.endswith(("}metadata", "}style")):
                node.remove(child)
    for node in drawing.iter():
        for name, value in list(node.attrib.items()):
            node.set(name, _rewritten(name, value, key))
        if node.tag == "g":
            node.attrib.pop("id", None)
    drawing.attrib = {"viewBox": drawing.attrib["viewBox"], "role": "img", "aria-label": title, "class": "figure"}
    drawing.insert(0, heading := ElementTree.Element("title"))
    heading.text = title
    return ElementTree.tostring(drawing, encoding="unicode")


def _rewritten(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name == "href":
        return value.replace("#", f"#{key}-", 1)
    if name == "clip-path":
        return value.replace("url(#", f"url(#{key}-")
    if name == "style":
        value = re.sub(r"font-family: [^;]*", "font-family: inherit", value)
        return re.sub(r"#01020\d", lambda colour: f"var(--{_VARIABLES[colour[0]]})", value)
    return value
