"""The frontier figure: agreement with the exact teacher against cost, and against the training pool's size."""

import io
from collections.abc import Mapping
from itertools import cycle
from typing import Any

from influcoder.benchmarks.methods.bench import PSEUDO, TIERS
from influcoder.benchmarks.settings import POOLS

OURS = tuple(f"{tier}{how}" for tier in (*TIERS, PSEUDO) for how in ("", "-exact-query"))


def frontier(metrics: Mapping[str, Any]) -> bytes:
    """An SVG of the first pool of tasks, or the first corpus: agreement against ms an example, and against examples."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "influcoder"
    from matplotlib import pyplot

    name = POOLS[0] if POOLS[0] in metrics["corpora"] else next(iter(metrics["corpora"]))
    corpus = metrics["corpora"][name]
    methods = {key: method for key, method in corpus["methods"].items() if "," not in key and " from " not in key}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), width_ratios=(3, 2))
    sides = cycle((((-4, 3), "right"), ((4, -9), "left")))  # neighbours' names above to the left, below to the right
    for key, method in sorted(methods.items(), key=lambda item: item[1]["per_query_spearman"]):
        point = method["ms_per_example"], method["per_query_spearman"]
        colour = "#2563eb" if key.removesuffix("-int8") in OURS else "#9a3412" if key == "exact" else "#57534e"
        left.plot([point[0]] * 2, method["interval_95"]["per_query_spearman"], color=colour, lw=1)
        left.plot(*point, "o", color=colour, ms=4)
        if not key.endswith("-int8"):
            offset, aligned = next(sides)
            left.annotate(key, point, offset, textcoords="offset points", fontsize=8, ha=aligned)
    left.margins(x=0.5)  # room for the names
    left.set(xscale="log", xlabel="ms an example (this machine)", ylabel="per query ρ with the teacher", title=name)
    curve = sorted((rows, corpus["methods"][key]["per_query_spearman"]) for key, rows in corpus["curve"].items())
    sizes = [rows for rows, _ in curve]
    right.plot(sizes, [agreement for _, agreement in curve], "o-", color="#2563eb", label="static")
    for rival in ("paper-recipe", "surface"):
        if rival in methods:
            height = methods[rival]["per_query_spearman"]
            right.axhline(height, color="#57534e", ls="--", lw=1)
            right.annotate(rival, (sizes[0], height), (0, 3), textcoords="offset points", fontsize=8)
    right.set(xscale="log", xlabel="pool examples learnt from", title="static tier and how much it learns from")
    right.minorticks_off()
    right.set_xticks(sizes, [f"{size:g}" for size in sizes])
    figure.tight_layout()
    sink = io.BytesIO()
    figure.savefig(sink, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return sink.getvalue()
