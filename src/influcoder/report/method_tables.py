"""Tables of methods for a terminal of 80 columns: agreement and cost, and planted rows. Names are always whole."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from influcoder.report.visible import visible

COLUMNS = ("per\nquery ρ", "95 %\ninterval", "without\nlength", "top\n10 %", "ms", "bytes")
"""numbers of a method that are shown: the others are in metrics.json and on the page"""


def methods_table(methods: Mapping[str, Mapping[str, Any]]) -> Table:
    """Agreement of each method with the exact teacher, best first, and its cost per example."""
    table = named_table("Agreement with the exact teacher, and cost of an example", *COLUMNS)
    for name, values in sorted(methods.items(), key=lambda item: -item[1]["per_query_spearman"]):
        low, high = values["interval_95"]["per_query_spearman"]
        table.add_row(
            Text(visible(f"{name} (other seed)" if name == "exact" else name)),
            f"{values['per_query_spearman']:.3f}",
            f"{low:.2f} to {high:.2f}",
            f"{values['length_controlled_spearman']:.3f}",
            f"{values['top_10_percent_overlap']:.3f}",
            f"{values['ms_per_example']:.3g}",
            f"{values['bytes_per_example']:,}",
        )
    return table


def planted_table(planted: Mapping[str, Mapping[str, float]]) -> Table:
    """How many of the planted rows each method finds, best first."""
    table = named_table("Finding the planted rows", "recall@10", "MRR")
    for name, values in sorted(planted.items(), key=lambda item: -item[1]["recall_at_10"]):
        table.add_row(Text(visible(name)), f"{values['recall_at_10']:.3f}", f"{values['mrr']:.3f}")
    return table


def named_table(title: str, *columns: str, first: str = "method") -> Table:
    """An empty table without lines: a column of names, which fold where they are too long, and columns of numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
