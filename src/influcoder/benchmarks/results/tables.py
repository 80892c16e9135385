"""The benchmarks' results as Markdown: a table is its entries by name, and columns that read their numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

from influcoder.benchmarks.settings import EXACT

Metrics = Mapping[str, Any]
Column = tuple[str, Callable[[Any], str]]
"""a head, and the cell of an entry"""
LEAST_SCORE, MOST_COST = 0.9, 0.25
"""shares of exact Grad-Cos's that the cascade should reach and stay below"""
TOXICITY = {
    "Rep-Sim": (0.498, 0.672),
    "Grad-Dot": (0.326, 0.522),
    "Grad-Sim": (0.466, 0.584),
    "LESS": (0.515, 0.704),
    "DataInf": (0.328, 0.563),
    "EK-FAC": (0.313, 0.571),
}
"""AUPRC (heterogeneous, homogeneous) that DATE-LM published for Pythia-1B, means over three sets of 10,000+ rows"""
COUNTERFACT = {
    "BM25": (0.305, 0.771),
    "Rep-Sim": (0.376, 0.790),
    "Grad-Dot": (0.466, 0.768),
    "Grad-Sim": (0.493, 0.836),
    "LESS": (0.500, 0.772),
    "DataInf": (0.472, 0.765),
    "EK-FAC": (0.465, 0.766),
}
"""(Recall@50, MRR) that DATE-LM published for Pythia-1B; 5,473 rows, 66 references"""


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def table(head: str, entries: Iterable[tuple[str, Any]], columns: Sequence[Column]) -> str:
    """A Markdown table of named entries."""
    rows = [[name, *(cell(entry) for _, cell in columns)] for name, entry in entries]
    return markdown([head, *(title for title, _ in columns)], rows)


def number(head: str, style: str, *path: str) -> Column:
    """A column of the number that stands at a path; empty where there is none."""
    return head, lambda entry: format(value, style) if (value := _at(entry, path)) is not None else ""


def interval(head: str, *path: str) -> Column:
    """A column of an estimate with its 95 % interval; empty where there is none."""

    def cell(entry: Any) -> str:
        if (estimate := _at(entry, path)) is None:
            return ""
        low, high = estimate["interval_95"]
        return f"{estimate['mean']:.3f} [{low:.2f}, {high:.2f}]"

    return head, cell


def _published(heads: Sequence[str], values: Mapping[str, tuple[float, float]]) -> str:
    rows = ([name, *(f"{value:.3f}" for value in pair)] for name, pair in values.items())
    return markdown(["published", *heads], rows)


def _at(entry: Any, path: Sequence[str]) -> Any:
    return reduce(lambda value, key: None if value is None else value.get(key), path, entry)


def _best_first(methods: Metrics, *path: str) -> list[tuple[str, Any]]:
    return sorted(methods.items(), key=lambda item: -_at(item[1], path))


def causal_tables(metrics: Metrics) -> str:
    """Everything that `influcoder benchmark causal` reports."""
    splits, methods = metrics["splits"], metrics["methods"]
    names = [number(name, ".2f", "rho_to", name) for name in methods]
    return (
        f"{splits['pool']} pool rows, {splits['queries']} queries, {splits['subsets']} retrained halves, seeds "
        f"{', '.join(map(str, metrics['seeds']))}; overlap {splits['overlap']}. Means with 95 % intervals over "
        f"queries.\n\n{causal_table(metrics)}\n{length_table(metrics)}"
        f"Mean per-query ρ between the rankings of every two methods:\n\n{table('ρ', methods.items(), names)}"
    )


def causal_table(metrics: Metrics) -> str:
    """The methods, highest LDS first, below the ceiling."""
    kinds = [kind for kind in metrics["lds_ceiling"] if kind != "all"]
    columns = [interval(f"LDS, {kind}", "lds", kind) for kind in (["all", *kinds] if len(kinds) > 1 else ["all"])]
    columns += [
        interval("one step ρ", "one_step", "all"),
        ("examples/s", _speed),
        number("bytes/example", ",.0f", "bytes_per_example"),
    ]
    ceiling = ("retraining twice", {"lds": metrics["lds_ceiling"]})
    methods = _best_first(dict(sorted(metrics["methods"].items())), "lds", "all", "mean")
    return table("method", [ceiling, *methods], columns)


def length_table(metrics: Metrics) -> str:
    """The LDS of every method under each length policy; nothing of runs of 0.1.0, which had none."""
    methods = _best_first(dict(sorted(metrics["methods"].items())), "lds", "all", "mean")
    if "lds_by_length" not in methods[0][1]:
        return ""
    policies = [number(name, ".3f", "lds_by_length", name, "all", "mean") for name in methods[0][1]["lds_by_length"]]
    return f"LDS when a row's length counts for more, or for nothing:\n\n{table('method', methods, policies)}\n"


def _speed(method: Metrics) -> str:
    speed = method.get("examples_per_second")
    return "" if speed is None else f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"


def fidelity_tables(metrics: Metrics) -> str:
    """Everything that `influcoder benchmark fidelity` reports."""
    sections = [
        f"Seeds {', '.join(map(str, metrics['seeds']))}; overlap {metrics['splits']['overlap']}. Means over "
        "seeds; in brackets the mean of their 95 % bootstrap intervals over queries.\n"
    ]
    for name, corpus in metrics["corpora"].items():
        (queries, pool), test, more = (corpus["examples"][part] for part in ("train", "test", "more"))
        shares = next(iter(corpus["shortlists"].values()))
        shortlists = [number(f"{float(share):.0%}", ".2f", share) for share in shares]
        sections.append(
            f"### {name}\n\n"
            f"{queries:,} queries x {pool:,} pool rows to learn from (15 % of them for validation), {test[0]:,} x "
            f"{test[1]:,} to test on, {more[0]:,} and {more[1]:,} further ones.\n\n{_fidelity_table(corpus)}\n"
            f"{table('exact top 10 % kept by a shortlist of', corpus['shortlists'].items(), shortlists)}"
        )
        if "trust" in corpus:
            keys = {"expected": "expected", "found": "found", "off by": "off_by", "width of band": "band_width"}
            columns = [number(head, ".3f", key) for head, key in keys.items()]
            columns.append(number("inside", ".0%", "inside_band"))
            sections.append(table("per query ρ, asked as text", corpus["trust"].items(), columns))
    return "\n".join(sections)


def _fidelity_table(corpus: Metrics) -> str:
    def per_query(method: Metrics) -> str:
        if "per_query_spearman" not in method:
            return ""
        low, high = method["interval_95"]["per_query_spearman"]
        return f"{method['per_query_spearman']:.3f} [{low:.2f}, {high:.2f}]"

    columns: list[Column] = [
        ("per query ρ", per_query),
        number("aggregated ρ", ".3f", "aggregated_spearman"),
        number("length-controlled ρ", ".3f", "length_controlled_spearman"),
        number("top 10 %", ".2f", "top_10_percent_overlap"),
        number("ms/example", ".2f", "ms_per_example"),
        number("bytes/example", ",.0f", "bytes_per_example"),
    ]
    recall = corpus.get("recall", {})
    entries = [
        (name, method | recall.get(name, {})) for name, method in _best_first(corpus["methods"], "per_query_spearman")
    ]
    if recall:
        columns += [number("recall@10", ".2f", "recall_at_10"), number("MRR", ".2f", "mrr")]
        entries += [(name, recall[name]) for name in ("cascade", "teacher")]
    return table("method", entries, columns)


def toxicity_tables(metrics: Metrics) -> str:
    """Everything that `influcoder benchmark toxicity` reports."""
    rankings = ("heterogeneous", "homogeneous")
    columns = [
        interval(f"{head}, {ranking[:3]}.", ranking, key)
        for ranking in rankings
        for head, key in (("AUPRC", "auprc"), ("AP", "average_precision"))
    ]
    return (
        f"{_comparison(metrics, columns, 'heterogeneous', 'auprc', 'mean')}\n"
        "For comparison, not rerun: DATE-LM's published AUPRC with Pythia-1B on its own sets.\n\n"
        f"{_published(rankings, TOXICITY)}"
    )


def counterfact_tables(metrics: Metrics) -> str:
    """Everything that `influcoder benchmark counterfact` reports."""
    kinds, measures = sorted(metrics["taught"], reverse=True), {"Recall@50": "recall_at_50", "MRR": "mrr"}
    columns = [interval(f"{head}, {kind}", kind, key) for kind in kinds for head, key in measures.items()]
    taught = [(kind, metrics["taught"][kind]) for kind in kinds]
    stages = [interval(stage, stage) for stage in metrics["taught"][kinds[0]]]
    return (
        f"{_comparison(metrics, columns, 'all', 'mrr', 'mean')}\n"
        f"Loss of the false object that is asked for, by stage of training:\n\n{table('question', taught, stages)}\n"
        "For comparison, not rerun: DATE-LM's published values with Pythia-1B on its own set.\n\n"
        f"{_published(list(measures), COUNTERFACT)}"
    )


def paper_tables(metrics: Metrics) -> str:
    """Everything that `influcoder benchmark paper` reports."""
    columns = [interval("per query ρ", "per_query_spearman"), interval("aggregated ρ", "aggregated_spearman")]
    return _comparison(metrics, columns, "per_query_spearman", "mean")


def selection_tables(metrics: Metrics) -> str:
    """Everything that `influcoder benchmark selection` reports."""
    settings = metrics["settings"]
    tasks, rules = [*settings["tasks"], "all"], next(iter(metrics["crossed"].values()))
    columns = [number(f"loss, {task}", ".3f", "loss", task, "mean") for task in tasks]
    columns += [interval(f"gain, {task}", "gain", task) for task in tasks]
    note = (
        f"{settings['budget']} rows are chosen for each task, round robin over its {settings['queries']} queries. "
        f"Loss: mean of {settings['test']} test rows per task and seed. Gain: how far it is below that of random "
        "choices, row by row; higher is better. The gains of random scores are noise.\n\n"
    )
    crossed = [interval(rule, rule, "gain", "all") for rule in rules]
    return (
        f"{_comparison(metrics, columns, 'gain', 'all', 'mean', note=note)}\n"
        f"{table('trained on', metrics['beside'].items(), columns)}\n"
        f"Gain over all tasks by scores and selection rule, with the same budget:\n\n"
        f"{table('scores of', metrics['crossed'].items(), crossed)}"
    )


def _comparison(metrics: Metrics, columns: Sequence[Column], *rank: str, note: str = "") -> str:
    """What was compared and how, and the methods, best first, with their results, costs and sanity checks."""
    audit, sanity = metrics["audit"], metrics["sanity"]
    sizes = {side: f"{count:,}" for side, count in audit["examples"].items()}
    methods = [(name, method | sanity["methods"][name]) for name, method in _best_first(metrics["methods"], *rank)]
    costs = [
        number("cost of a question", ".1%", "cost_share"),
        number("examples/s", ",.0f", "examples_per_second"),
        number("learning s", ".1f", "learning_seconds"),
        number("bytes/example", ",.0f", "bytes_per_example"),
        number("memory MB", ",.0f", "memory_mb"),
        number("hubness", ".2f", "hubness"),
        number("length ρ", ".2f", "length_rho"),
    ]
    return (
        f"{sizes['pool']} pool rows, {sizes['queries']} queries; students learn "
        f"{metrics['settings'].get('teacher', EXACT)}'s influences from {sizes['train queries']} x "
        f"{sizes['train pool']} others, validated on {sizes['validation queries']} x {sizes['validation pool']}; seeds "
        f"{', '.join(map(str, metrics['seeds']))}; leak audit: {len(audit['checked'])} pairs of sides, overlap "
        f"{audit['overlap']}. Means with 95 % bootstrap intervals. With shuffled weights exact Grad-Cos's ranking "
        f"agrees with the real one at ρ {sanity['randomised_rho']:.2f}.\n\n"
        "Cost of a question: time as a share of exact Grad-Cos's; for the cascade, its gradients for one question and "
        "its cheap tier. Learning: everything that is made first, once per model. Hubness: different rows in all top "
        "tens, 1 is best. Length ρ: of the score with the completion's length.\n\n"
        f"{note}{table('method', methods, [*columns, *costs])}"
    )


def not_reached(metrics: Metrics, measure: str, value: Callable[[Any], float], beaten: Sequence[str] = ()) -> str:
    """Which rivals and targets the numbers reach and which they do not, in a sentence each.

    Args:
        measure: in words; higher is better.
        value: reads it of a method's numbers.
        beaten: rivals that ours should be ahead of, besides the paper's recipe and the untrained encoder.
    """
    values = {name: value(method) for name, method in metrics["methods"].items()}
    ours = max((name for name in values if name.startswith("influcoder")), key=values.__getitem__)
    rivals = [name for name in ("paper-recipe", "untrained", *beaten) if name in values]
    ahead, behind = (
        ", ".join(f"{name} ({values[name]:.3f})" for name in rivals if (values[ours] > values[name]) is is_ahead)
        for is_ahead in (True, False)
    )
    best = max(values, key=values.__getitem__)
    lines = [
        f"{measure}: the best of ours is {ours} ({values[ours]:.3f}).",
        f"Ahead of {ahead}." if ahead else "",
        f"**Not ahead of {behind}.**" if behind else "",
        _cascade(values["cascade"], values[EXACT], metrics["methods"]["cascade"]) if "cascade" in values else "",
        f"Best of all: {best} ({values[best]:.3f})." if values[best] > values[ours] else "",
    ]
    return " ".join(filter(None, lines))


def _cascade(reached: float, exact: float, method: Metrics) -> str:
    """How close the cascade comes to exact scores, and at what cost."""
    share = f"{reached / exact:.0%} of " if exact > 0 else ""
    told = (
        f"The cascade has {share}exact Grad-Cos's score ({reached:.3f} of {exact:.3f}) "
        f"at {method['cost_share']:.1%} of its cost a question"
    )
    enough = reached >= LEAST_SCORE * exact and method["cost_share"] <= MOST_COST
    return f"{told}." if enough else f"**{told}: wanted {LEAST_SCORE:.0%} at {MOST_COST:.0%}.**"
