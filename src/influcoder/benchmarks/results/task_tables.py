"""The task benchmarks' results as Markdown: toxicity, counterfact, selection."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from influcoder.benchmarks.results.tables import markdown, with_interval
from influcoder.benchmarks.settings import EXACT

COST = ["cost of a question", "examples/s", "learning s", "bytes/example", "memory MB", "hubness", "length ρ"]
LEAST_SCORE, MOST_COST = 0.9, 0.25
"""of exact Grad-Cos, for the cascade"""
Column = tuple[str, Callable[..., str]]
"""its head, and what it shows of a method's numbers"""
COST_NOTE = (
    "Cost of a question: time as a share of exact Grad-Cos's; the cascade's is its gradients for one question and its "
    "cheap tier. Learning: everything that is made first, once a model. Hubness: different rows in all top tens, 1 is "
    "best. Length ρ: of the score with the completion's length."
)


def toxicity_tables(metrics: Mapping[str, Any]) -> str:
    """Everything that `influcoder benchmark toxicity` has to say."""
    rankings = ("heterogeneous", "homogeneous")
    columns: list[Column] = [
        (f"{measure}, {ranking[:3]}.", lambda one, r=ranking, k=key: with_interval(one[r][k]))
        for ranking in rankings
        for measure, key in (("AUPRC", "auprc"), ("AP", "average_precision"))
    ]
    published = [[name, *(f"{value:.3f}" for value in each)] for name, each in TOXICITY.items()]
    return (
        f"{_head(metrics)}\n{_table(metrics, columns, lambda one: one['heterogeneous']['auprc']['mean'])}\n"
        "Context, not a rerun: DATE-LM's published AUPRC with Pythia-1B on its own sets.\n\n"
        f"{markdown(['published', *rankings], published)}"
    )


def counterfact_tables(metrics: Mapping[str, Any]) -> str:
    """Everything that `influcoder benchmark counterfact` has to say."""
    kinds = sorted(metrics["taught"], reverse=True)
    columns: list[Column] = [
        (f"{measure}, {kind}", lambda one, kind=kind, key=key: with_interval(one[kind][key]))
        for kind in kinds
        for measure, key in (("Recall@50", "recall_at_50"), ("MRR", "mrr"))
    ]
    stages = list(metrics["taught"][kinds[0]])
    taught = [[kind, *(with_interval(metrics["taught"][kind][stage]) for stage in stages)] for kind in kinds]
    published = [[name, *(f"{value:.3f}" for value in each)] for name, each in COUNTERFACT.items()]
    return (
        f"{_head(metrics)}\n{_table(metrics, columns, lambda one: one['all']['mrr']['mean'])}\n"
        f"Loss of the false object that is asked for, by training:\n\n{markdown(['question', *stages], taught)}\n"
        "Context, not a rerun: DATE-LM's published values with Pythia-1B on its own set.\n\n"
        f"{markdown(['published', 'Recall@50', 'MRR'], published)}"
    )


def paper_tables(metrics: Mapping[str, Any]) -> str:
    """Everything that `influcoder benchmark paper` has to say."""
    keys = {"per query ρ": "per_query_spearman", "aggregated ρ": "aggregated_spearman"}
    columns: list[Column] = [(head, lambda one, of=key: with_interval(one[of])) for head, key in keys.items()]
    return f"{_head(metrics)}\n{_table(metrics, columns, lambda one: one['per_query_spearman']['mean'])}"


def selection_tables(metrics: Mapping[str, Any]) -> str:
    """Everything that `influcoder benchmark selection` has to say."""
    settings = metrics["settings"]
    tasks = [*settings["tasks"], "all"]
    columns: list[Column] = [(f"loss, {task}", lambda one, of=task: f"{one['loss'][of]['mean']:.3f}") for task in tasks]
    columns += [(f"gain, {task}", lambda one, of=task: with_interval(one["gain"][of])) for task in tasks]
    beside = [[name, *(cell(each) for _, cell in columns)] for name, each in metrics["beside"].items()]
    rules = list(next(iter(metrics["crossed"].values())))
    crossed = [
        [name, *(with_interval(each[rule]["gain"]["all"]) for rule in rules)]
        for name, each in metrics["crossed"].items()
    ]
    return (
        f"{_head(metrics)}\n{settings['budget']} rows are chosen for each task, round robin over its "
        f"{settings['queries']} queries. Loss: mean of {settings['test']} test rows a task and seed. Gain: how far "
        f"it is below that of a random choice, row by row; higher is better.\n\n"
        f"{_table(metrics, columns, lambda one: one['gain']['all']['mean'])}\n"
        f"{markdown(['trained on', *(head for head, _ in columns)], beside)}\n"
        f"Representation x rule, gain over all tasks, the same budget:\n\n"
        f"{markdown(['scores of', *rules], crossed)}"
    )


def not_reached(
    metrics: Mapping[str, Any], what: str, value: Callable[[Any], float], beaten: Sequence[str] = ()
) -> str:
    """What the numbers fall short of, in a sentence each; what they reach is said too.

    Args:
        what: the measure in words, higher is better.
        value: reads it of a method's numbers.
        beaten: rivals that ours should be ahead of, besides the paper's recipe and the untrained encoder.
    """
    values = {name: value(one) for name, one in metrics["methods"].items()}
    ours = max((name for name in values if name.startswith("influcoder")), key=values.__getitem__)
    rivals = [name for name in ("paper-recipe", "untrained", *beaten) if name in values]
    shown = {name: f"{name} ({values[name]:.3f})" for name in rivals}
    ahead = [shown[name] for name in rivals if values[ours] > values[name]]
    behind = [shown[name] for name in rivals if values[ours] <= values[name]]
    cost = metrics["methods"]["cascade"]["cost_share"]
    enough = values["cascade"] >= LEAST_SCORE * values[EXACT] and cost <= MOST_COST
    share = f"{values['cascade'] / values[EXACT]:.0%} of " if values[EXACT] > 0 else ""
    lines = [f"{what}: the best of ours is {ours} ({values[ours]:.3f})."]
    lines += [f"Ahead of {', '.join(ahead)}."] if ahead else []
    lines += [f"**Not ahead of {', '.join(behind)}.**"] if behind else []
    cascade = (
        f"The cascade has {share}exact Grad-Cos's score ({values['cascade']:.3f} of {values[EXACT]:.3f}) "
        f"at {cost:.1%} of its cost a question"
    )
    lines.append(f"{cascade}." if enough else f"**{cascade}: wanted {LEAST_SCORE:.0%} at {MOST_COST:.0%}.**")
    best = max(values, key=values.__getitem__)
    if values[best] > values[ours]:
        lines.append(f"Best of all: {best} ({values[best]:.3f}).")
    return " ".join(lines)


def _head(metrics: Mapping[str, Any]) -> str:
    audit, seeds = metrics["audit"], ", ".join(map(str, metrics["seeds"]))
    sizes = {side: f"{count:,}" for side, count in audit["examples"].items()}
    teacher = metrics["settings"].get("teacher", EXACT)
    return (
        f"{sizes['pool']} pool rows, {sizes['queries']} queries; students learn {teacher}'s influences from "
        f"{sizes['train queries']} x {sizes['train pool']} others and choose by {sizes['validation queries']} x "
        f"{sizes['validation pool']}; seeds {seeds}; leak audit: {len(audit['checked'])} pairs of sides, overlap "
        f"{audit['overlap']}. Means with 95 % bootstrap intervals. With shuffled weights exact Grad-Cos's ranking "
        f"agrees with the real one at ρ {metrics['sanity']['randomised_rho']:.2f}.\n\n{COST_NOTE}\n"
    )


def _table(
    metrics: Mapping[str, Any],
    columns: Sequence[Column],
    rank: Callable[[Mapping[str, Any]], float],
) -> str:
    """Methods, best first: what was measured, what it cost, and its sanity."""
    rows = []
    for name, one in sorted(metrics["methods"].items(), key=lambda item: -rank(item[1])):
        check = metrics["sanity"]["methods"][name]
        rows.append(
            [
                name,
                *(cell(one) for _, cell in columns),
                f"{one['cost_share']:.1%}",
                f"{one['examples_per_second']:,.0f}",
                f"{one['learning_seconds']:.1f}",
                f"{one['bytes_per_example']:,.0f}",
                f"{one['memory_mb']:,.0f}",
                f"{check['hubness']:.2f}",
                f"{check['length_rho']:.2f}",
            ]
        )
    return markdown(["method", *(head for head, _ in columns), *COST], rows)


TOXICITY = {
    "Rep-Sim": (0.498, 0.672),
    "Grad-Dot": (0.326, 0.522),
    "Grad-Sim": (0.466, 0.584),
    "LESS": (0.515, 0.704),
    "DataInf": (0.328, 0.563),
    "EK-FAC": (0.313, 0.571),
}
"""AUPRC with Pythia-1B, means over three sets of 10,000 rows and more: (heterogeneous, homogeneous)"""

COUNTERFACT = {
    "BM25": (0.305, 0.771),
    "Rep-Sim": (0.376, 0.790),
    "Grad-Dot": (0.466, 0.768),
    "Grad-Sim": (0.493, 0.836),
    "LESS": (0.500, 0.772),
    "DataInf": (0.472, 0.765),
    "EK-FAC": (0.465, 0.766),
}
"""(Recall@50, MRR) with Pythia-1B; 5,473 rows, 66 references"""
