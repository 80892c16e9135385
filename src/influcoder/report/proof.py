"""What `prove` found, for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from influcoder.report.console import Console
from influcoder.report.visible import visible

SHOWN = 3


def print_proof(metrics: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """A table of the conditions, and what the model said of a few queries under each."""
    console = Console()
    console.print(proof_table(metrics))
    for line in answer_lines(metrics, answers):
        console.print(line)
    console.print(Text(f"written to {folder}"), soft_wrap=True)


def proof_table(metrics: Mapping[str, Any]) -> Table:
    """Loss and changed answers under each condition, a condition a row."""
    seeds = len(metrics["seeds"])
    table = Table(
        title=f"{metrics['queries']} queries, {metrics['pool']} rows, {seeds} seed{'s' if seeds > 1 else ''}",
        title_justify="left",
    )
    table.add_column("trained")
    for name in ("loss", "loss change", "answers changed"):
        table.add_column(name, justify="right")
    for condition, numbers in metrics["conditions"].items():
        cells = ["-", "-"]
        if condition != "all":
            cells = [
                _with_interval(numbers[name], numbers[f"{name}_interval"], form)
                for name, form in (("loss_change", "{:+.2f}"), ("changed", "{:.0%}"))
            ]
        table.add_row(_named(condition, metrics["removed"]), f"{numbers['loss']:.2f}", *cells)
    by_seed = metrics["conditions"]["all"]["changed_by_seed"]
    if by_seed is not None:
        table.caption = f"Another order of all rows changes {by_seed:.0%} of the answers."
        table.caption_justify = "left"
    return table


def answer_lines(metrics: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> list[Text]:
    """The first seed's answers to the first queries, a line a condition."""
    lines = []
    for row in [one for one in answers if one["seed"] == metrics["seeds"][0]][:SHOWN]:
        lines.append(Text(f"\nasked: {_one_line(row['prompt'])}", style="bold"))
        for condition, answer in row["answers"].items():
            name = "before" if condition == "all" else _named(condition, metrics["removed"])
            lines.append(Text(f"{name}: {_one_line(answer)}"))
    return lines


def _named(condition: str, removed: int) -> str:
    """A condition in words.

    >>> _named("found", 20), _named("tfidf", 1)
    ('without the 20 rows found', "without TF-IDF's row")
    """
    rows = "row" if removed == 1 else f"{removed} rows"
    known = {
        "all": "on all rows",
        "found": f"without the {rows} found",
        "random": f"without {'a' if removed == 1 else removed} random {'row' if removed == 1 else 'rows'}",
        "tfidf": f"without TF-IDF's {'row' if removed == 1 else removed}",
    }
    return known.get(condition, f"without the {rows} by {condition}")


def _with_interval(value: float, ends: Sequence[float] | None, form: str) -> str:
    said = form.format(value)
    return said if ends is None else f"{said} [{', '.join(form.format(end) for end in ends)}]"


def _one_line(text: str, limit: int = 200) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."
