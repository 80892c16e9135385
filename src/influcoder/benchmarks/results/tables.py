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


def fidelity_tables(metrics: Mapping[str, Any]) -> str:
    """Everything that `influcoder benchmark fidelity` has to say."""
    head = (
        f"Seeds {', '.join(map(str, metrics['seeds']))}; overlap {metrics['splits']['overlap']}. Means over seeds, of "
        "bytes too; in brackets the mean of their 95 % bootstrap intervals over queries.\n"
    )
    parts = [head]
    for name, corpus in metrics["corpora"].items():
        parts.append(f"### {name}\n\n{_sizes(corpus)}\n{_methods_table(corpus)}\n{_shortlist_table(corpus)}")
        if "trust" in corpus:
            parts.append(_trust_table(corpus))
    return "\n".join(parts)


def _sizes(corpus: Mapping[str, Any]) -> str:
    (queries, pool), test, more = (corpus["examples"][part] for part in ("train", "test", "more"))
    return (
        f"{queries:,} queries x {pool:,} pool rows to learn from (15 % of them to choose by), {test[0]:,} x "
        f"{test[1]:,} to test on, {more[0]:,} and {more[1]:,} further ones.\n"
    )


def _methods_table(corpus: Mapping[str, Any]) -> str:
    recall = corpus.get("recall", {})
    head = ["method", "per query ρ", "aggregated ρ", "length-controlled ρ", "top 10 %", "ms/example", "bytes/example"]
    rows = []
    for name, one in sorted(corpus["methods"].items(), key=lambda item: -item[1]["per_query_spearman"]):
        low, high = one["interval_95"]["per_query_spearman"]
        rows.append(
            [
                name,
                f"{one['per_query_spearman']:.3f} [{low:.2f}, {high:.2f}]",
                *(f"{one[key]:.3f}" for key in ("aggregated_spearman", "length_controlled_spearman")),
                f"{one['top_10_percent_overlap']:.2f}",
                f"{one['ms_per_example']:.2f}",
                f"{one['bytes_per_example']:,.0f}",
            ]
            + ([f"{recall[name]['recall_at_10']:.2f}", f"{recall[name]['mrr']:.2f}"] if recall else [])
        )
    for name in ("cascade", "teacher"):
        if name in recall:
            rows.append([name, *[""] * 6, f"{recall[name]['recall_at_10']:.2f}", f"{recall[name]['mrr']:.2f}"])
    return markdown(head + (["recall@10", "MRR"] if recall else []), rows)


def _shortlist_table(corpus: Mapping[str, Any]) -> str:
    shares = next(iter(corpus["shortlists"].values()))
    rows = [[tier, *(f"{value:.2f}" for value in each.values())] for tier, each in corpus["shortlists"].items()]
    return markdown(["exact top 10 % kept by a shortlist of", *(f"{float(share):.0%}" for share in shares)], rows)


def _trust_table(corpus: Mapping[str, Any]) -> str:
    rows = [
        [
            tier,
            *(f"{one[key]:.3f}" for key in ("expected", "found", "off_by", "band_width")),
            f"{one['inside_band']:.0%}",
        ]
        for tier, one in corpus["trust"].items()
    ]
    return markdown(["per query ρ, asked as text", "expected", "found", "off by", "width of band", "inside"], rows)


def causal_table(metrics: Mapping[str, Any]) -> str:
    """The table of `influcoder benchmark causal`, best LDS first."""
    kinds = [kind for kind in metrics["lds_ceiling"] if kind != "all"]
    kinds = ["all", *kinds] if len(kinds) > 1 else ["all"]
    head = ["method", *(f"LDS, {kind}" for kind in kinds), "one step ρ", "examples/s", "bytes/example"]
    methods = sorted(metrics["methods"].items(), key=lambda item: (-item[1]["lds"]["all"]["mean"], item[0]))
    rows = [
        [
            name,
            *(with_interval(one["lds"][kind]) for kind in kinds),
            with_interval(one["one_step"]["all"]),
            _rounded(one["examples_per_second"]),
            f"{one['bytes_per_example']:,}",
        ]
        for name, one in methods
    ]
    ceiling = ["retraining twice", *(with_interval(metrics["lds_ceiling"][kind]) for kind in kinds), "", "", ""]
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


def with_interval(one: Mapping[str, Any]) -> str:
    """A number with its 95 % interval."""
    low, high = one["interval_95"]
    return f"{one['mean']:.3f} [{low:.2f}, {high:.2f}]"


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
