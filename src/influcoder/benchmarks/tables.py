"""Benchmark results as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any


def causal_tables(metrics: Mapping[str, Any]) -> str:
    """Everything that `influcoder benchmark causal` has to say."""
    splits = metrics["splits"]
    return (
        f"{splits['pool']} pool rows, {splits['queries']} queries, {splits['subsets']} retrained halves, seeds "
        f"{', '.join(map(str, metrics['seeds']))}; overlap {splits['overlap']}. Means with 95 % intervals over "
        f"queries.\n\n{causal_table(metrics)}\nρ of every method's ranking to every other's:\n\n"
        f"{agreement_table(metrics)}"
    )


def causal_table(metrics: Mapping[str, Any]) -> str:
    """The table of `influcoder benchmark causal`, best LDS first."""
    kinds = [kind for kind in metrics["lds_ceiling"] if kind != "all"]
    kinds = ["all", *kinds] if len(kinds) > 1 else ["all"]
    head = ["method", *(f"LDS, {kind}" for kind in kinds), "one step ρ", "examples/s", "bytes/example"]
    methods = sorted(metrics["methods"].items(), key=lambda item: (-item[1]["lds"]["all"]["mean"], item[0]))
    rows = [
        [
            name,
            *(_with_interval(one["lds"][kind]) for kind in kinds),
            _with_interval(one["one_step"]["all"]),
            _rounded(one["examples_per_second"]),
            f"{one['bytes_per_example']:,}",
        ]
        for name, one in methods
    ]
    ceiling = ["retraining twice", *(_with_interval(metrics["lds_ceiling"][kind]) for kind in kinds), "", "", ""]
    return markdown(head, [ceiling, *rows])


def agreement_table(metrics: Mapping[str, Any]) -> str:
    """Mean per-query ρ of every method's scores to every other's."""
    names = list(metrics["methods"])
    rows = [[a, *(f"{metrics['methods'][a]['rho_to'][b]:.2f}" for b in names)] for a in names]
    return markdown(["ρ", *names], rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _with_interval(one: Mapping[str, Any]) -> str:
    low, high = one["interval_95"]
    return f"{one['mean']:.3f} [{low:.2f}, {high:.2f}]"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
