"""The results of `prove`, for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from influcoder.report.console import Console
from influcoder.report.sentences import trained_without
from influcoder.report.visible import one_line

SHOWN = 3


def print_proof(metrics: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """A table of the conditions, and the model's answers to a few queries under each."""
    console, seeds = Console(), len(metrics["seeds"])
    title = f"{metrics['queries']} queries, {metrics['pool']} rows, {seeds} seed{'s' if seeds > 1 else ''}"
    console.print(proof_table(metrics, title))
    for row in [answer for answer in answers if answer["seed"] == metrics["seeds"][0]][:SHOWN]:
        console.print(Text(f"\nasked: {one_line(row['prompt'])}", style="bold"))
        for line in answer_lines(row["answers"], metrics["removed"]):
            console.print(line)
    console.print(Text(f"written to {folder}"), soft_wrap=True)


def proof_table(metrics: Mapping[str, Any], title: str) -> Table:
    """Loss and changed answers, one row per condition."""
    table = Table(title=title, title_justify="left")
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
        table.add_row(trained_without(condition, metrics["removed"]), f"{numbers['loss']:.2f}", *cells)
    by_seed = metrics["conditions"]["all"]["changed_by_seed"]
    if by_seed is not None:
        table.caption = f"Another order of all rows changes {by_seed:.0%} of the answers."
        table.caption_justify = "left"
    return table


def answer_lines(answers: Mapping[str, str], removed: int) -> list[Text]:
    """A model's answers before and after a training without some rows, one line per condition."""
    return [
        Text(f"{'before' if condition == 'all' else trained_without(condition, removed)}: {one_line(answer)}")
        for condition, answer in answers.items()
    ]


def _with_interval(value: float, ends: Sequence[float] | None, form: str) -> str:
    number = form.format(value)
    return number if ends is None else f"{number} [{', '.join(form.format(end) for end in ends)}]"
