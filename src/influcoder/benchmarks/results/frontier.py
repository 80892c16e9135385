"""The frontier figure: agreement with the exact teacher against cost, and against how much is learnt."""

import io
from collections.abc import Mapping
from itertools import cycle
from typing import Any

from influcoder.benchmarks.methods.bench import PSEUDO, TIERS
from influcoder.benchmarks.settings import POOLS

OURS = tuple(f"{tier}{how}" for tier in (*TIERS, PSEUDO) for how in ("", "-exact-query"))


def frontier(metrics: Mapping[str, Any]) -> bytes:
    """An SVG for the first pool of tasks, or the first corpus: agreement against ms an example, against examples."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "influcoder"
    from matplotlib import pyplot

    name = POOLS[0] if POOLS[0] in metrics["corpora"] else next(iter(metrics["corpora"]))
    corpus = metrics["corpora"][name]
    methods = {key: one for key, one in corpus["methods"].items() if "," not in key and " from " not in key}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), width_ratios=(3, 2))
    sides = cycle((((-4, 3), "right"), ((4, -9), "left")))  # neighbours' names above to the left, below to the right
    for key, one in sorted(methods.items(), key=lambda item: item[1]["per_query_spearman"]):
        low, high = one["interval_95"]["per_query_spearman"]
        colour = "#2563eb" if key.removesuffix("-int8") in OURS else "#9a3412" if key == "exact" else "#57534e"
        left.plot([one["ms_per_example"]] * 2, [low, high], color=colour, lw=1)
        left.plot(one["ms_per_example"], one["per_query_spearman"], "o", color=colour, ms=4)
        if not key.endswith("-int8"):
            place = one["ms_per_example"], one["per_query_spearman"]
            offset, aligned = next(sides)
            left.annotate(key, place, offset, textcoords="offset points", fontsize=8, ha=aligned)
    left.margins(x=0.5)  # room for the names
    left.set(xscale="log", xlabel="ms an example (this machine)", ylabel="per query ρ with the teacher", title=name)
    learnt = sorted((rows, corpus["methods"][key]["per_query_spearman"]) for key, rows in corpus["curve"].items())
    places = [rows for rows, _ in learnt]
    right.plot(places, [agreed for _, agreed in learnt], "o-", color="#2563eb", label="static")
    for rival in ("paper-recipe", "surface"):
        if rival in methods:
            right.axhline(methods[rival]["per_query_spearman"], color="#57534e", ls="--", lw=1)
            right.annotate(
                rival, (places[0], methods[rival]["per_query_spearman"]), (0, 3), textcoords="offset points", fontsize=8
            )
    right.set(xscale="log", xlabel="pool examples learnt from", title="static tier and how much it learns from")
    right.minorticks_off()
    right.set_xticks(places, [f"{place:g}" for place in places])
    figure.tight_layout()
    sink = io.BytesIO()
    figure.savefig(sink, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return sink.getvalue()
